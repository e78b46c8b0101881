"""What headrace aims at on two cores, and whether the kept figures reach it."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bench.kept import figures, load
from bench.processes import Figures

_OURS: Final = "headrace"
_NAIVE: Final = "naive collector"
_LINGER_MS: Final = 3  # INGEST_LINGER_MS


class Target(NamedTuple):
    """One aim: a median that shall be at most, or at least, a bound."""

    what: str
    measured: float
    bound: float
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the median reaches it."""
        return self.measured >= self.bound if self.is_least else self.measured <= self.bound

    def line(self) -> str:
        """Return its row of the table."""
        sign = ">=" if self.is_least else "<="
        return (
            f"| {self.what} | {sign} {self.bound:,g} | {Figures.of((self.measured,)).short} |"
            f" {'yes' if self.is_met else '**no**'} |"
        )


def targets_table() -> str:
    """Return all targets with what was measured."""
    targets = (*_ingress(), *_sink(), *_freshness())
    return "\n".join(["| what | target | measured | met |", "|---" * 4 + "|", *(target.line() for target in targets)])


def _ingress() -> Iterator[Target]:
    kept = load("ingress")
    sides = kept["sides"]
    for size, most_us, part in ((1, 120, 5), (10, 25, 7), (100, 14, 4)):
        load_name = f"{size}x32"
        ours = _median(sides[_OURS][load_name], "cpu_us_per_event")
        naive = _median(sides[_NAIVE][load_name], "cpu_us_per_event")
        yield Target(f"ingress, {size} a request: CPU us an event", ours, most_us)
        yield Target(f"ingress, {size} a request: the naive collector's CPU by ours", naive / ours, part, is_least=True)
    for connections in (32, 256, 1000):
        rate = _median(sides[_OURS][f"1x{connections}"], "requests_per_s")
        yield Target(f"ingress, {connections} connections: requests/s of one event", rate, 5000, is_least=True)
    p50_ms = _median(sides[_OURS]["1x32"], "p50_ms")
    yield Target("ingress, 32 connections: p50 ms, the linger and 4", p50_ms, _LINGER_MS + 4)
    yield Target("ingress, half of the load: p99 ms", _median(sides[_OURS]["half"], "p99_ms"), 20)
    beside_ms = _median(sides[_OURS]["half, large beside"], "p99_ms")
    yield Target("ingress, half of the load beside requests of 5 MiB: p99 ms", beside_ms, 40)
    yield Target("ingress, 10,000 silent connections: MiB", kept["idle"]["mib"], 200)


def _sink() -> Iterator[Target]:
    sides = load("sink")["sides"]
    ours, naive, files = sides[_OURS], sides["naive consumer"], sides["engine, from files"]
    both = _median(ours, "both_us_per_row")
    yield Target("sink: CPU us a row of worker and ClickHouse", both, 16)
    yield Target("sink: the naive consumer's CPU by ours", _median(naive, "both_us_per_row") / both, 4, is_least=True)
    engine = _median(ours, "engine_us_per_row") / _median(files, "engine_us_per_row")
    yield Target("sink: ClickHouse's CPU by that for the same rows from files", engine, 1.3)
    rate = _median(ours, "rows_per_s") / _median(naive, "rows_per_s")
    yield Target("sink: rows/s by the naive consumer's", rate, 5, is_least=True)


def _freshness() -> Iterator[Target]:
    ours = load("freshness")["sides"][_OURS]
    yield Target("freshness at 1,000 events/s: p50 s", _median(ours, "p50_s"), 0.4)
    yield Target("freshness at 1,000 events/s: p99 s", _median(ours, "p99_s"), 1.2)


def _median(rounds: Any, name: str) -> float:
    return figures(rounds, name).median
