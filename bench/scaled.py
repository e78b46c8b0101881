"""Makes the text and the charts of docs/OPERATIONS.md from what bench/scaling.py has kept."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from bench.charts import curves
from bench.kept import load

PAGE: Final = "docs/OPERATIONS.md"
_MARKS: Final = "ingress processes / workers"
_WINDOW: Final = 8  # samples that a rate is taken over

Sample = dict[str, float]


def _samples() -> list[Sample]:
    found: list[Sample] = load("scaling")["samples"]
    return found


def _phases(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yield the samples of each phase; behind the last one nothing more was sent."""
    for _, group in groupby(samples, lambda sample: (sample["ingress"], sample["workers"])):
        yield list(group)


def _rate(first: Sample, last: Sample, name: str) -> float:
    return (last[name] - first[name]) / max(last["at_s"] - first["at_s"], 0.001)


def _rates(samples: Sequence[Sample], name: str) -> list[tuple[float, float]]:
    pairs = zip(samples, samples[_WINDOW:], strict=False)
    return [(last["at_s"], _rate(first, last, name)) for first, last in pairs]


def table() -> str:
    """Return what each phase showed, and how it ended."""
    found: dict[str, Any] = load("scaling")
    lines = [
        "| ingress processes | workers | accepted/s | refused with 503/s | inserted/s | waiting at the end |",
        "|---" * 6 + "|",
    ]
    for phase in _phases(_samples()):
        sending = [one for one in phase if one["accepted"] < found["end"]["accepted"]] or phase
        first, last = sending[0], sending[-1]
        cells = [f"{_rate(first, last, name):,.0f}" for name in ("accepted", "refused", "rows")]
        waiting = f"{last['accepted'] - last['rows']:,.0f}"
        lines.append(f"| {first['ingress']:.0f} | {first['workers']:.0f} | {' | '.join(cells)} | {waiting} |")
    end, limits = found["end"], found["limits"]
    rate, accepted = f"{found['per_s']:,.0f}", f"{end['accepted']:,}"
    held = f"{limits['requests_at_once']} requests at once with a linger of {limits['linger_ms']} ms"
    said = (
        f"{rate} events a second, 10 a request, on a topic of {limits['partitions']} partitions.",
        f"At the end all {accepted} accepted events were there: {end['missing']} missing, {end['double']} double.",
        "What was refused was sent again.",
        "",
        "Each process was held to a known capacity, because this machine's two cores are shared: an ingress process to",
        f"{held}, a worker to one insert of {limits['batch_rows']} rows at a time into a",
        f"ClickHouse that answers {limits['insert_s']} s late. So the figures show how work is shared and handed over,",
        "not how fast it is. A phase begins when processes are started or stopped; a worker takes part after its",
        "start and a rebalance, in which all others pause for a moment.",
    )
    return "\n".join((*lines, "", *said))


def _named(sample: Sample) -> str:
    return f"{sample['ingress']:.0f} / {sample['workers']:.0f}"


def charts() -> dict[str, str]:
    """Return the charts by file name.

    Raises:
        FileNotFoundError: the bench has not been run.
    """
    samples = _samples()
    marks = [(phase[0]["at_s"], _named(phase[0])) for phase in _phases(samples)]
    waiting = [(one["at_s"], one["accepted"] - one["rows"]) for one in samples]
    flows = {name: _rates(samples, key) for name, key in (("accepted/s", "accepted"), ("inserted/s", "rows"))}
    return {
        "scaling-waiting.svg": curves(
            f"Accepted events that are not in the table yet; {_MARKS}", {"events": waiting}, marks
        ),
        "scaling-rates.svg": curves(f"Events a second; {_MARKS}", flows, marks),
    }
