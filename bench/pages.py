"""Writes what the benches have kept into the documents: tables between their markers, and charts beside them.

Run `python -m bench.pages` (`make docs` does). A test compares the documents with the kept figures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bench import answers, scaled
from bench.charts import bars
from bench.kept import figures, load, table
from bench.processes import Figures
from bench.queue import Stages, flash_crowd, outage, simulate
from bench.scale import RATES, Assumptions, Costs, Plan, amount, costs_of, plan
from bench.scale import table as plan_table
from bench.targets import targets_table
from docs.tables import ROOT, replace_table

PERFORMANCE: Final = "docs/PERFORMANCE.md"
SCALE: Final = "docs/SCALE.md"
NOT_MEASURED: Final = "Not measured yet: `make bench` writes this."
_CHARTS: Final = ROOT / "docs" / "charts"
_LOADS: Final = {"1x32": "1", "10x32": "10", "100x32": "100"}
_ORDER: Final = ("headrace", "naive collector", "empty coroutine", "bare loop")


def median(rounds: Sequence[Mapping[str, float]], name: str) -> float:
    """Return the median of one quantity."""
    return figures(rounds, name).median


def machine_line() -> str:
    """Return on what the figures were measured, and how often."""
    sink, ingress, freshness = load("sink"), load("ingress"), load("freshness")
    counts = [len(found["sides"]["headrace"]) for found in (sink, freshness)]
    return (
        f"Machine: {ingress['machine']}. Rounds: {len(ingress['sides']['headrace']['1x32'])} of the ingress,"
        f" {counts[0]} of the sink with {sink['rows']:,} rows, {counts[1]} of freshness."
    )


def ingress_cpu() -> str:
    """Return the ingress's costs and rates."""
    sides = load("ingress")["sides"]
    lines = [
        "| events a request | side | CPU us/event | CPU us/request | requests/s | p50 ms | p99 ms |",
        "|---" * 7 + "|",
    ]
    keys = ("cpu_us_per_event", "cpu_us_per_request", "requests_per_s", "p50_ms", "p99_ms")
    for name, size in _LOADS.items():
        for side in _ORDER:
            rounds = sides[side].get(name, [])
            cells = [str(figures(rounds, key)) if rounds and key in rounds[0] else "" for key in keys]
            lines.append(f"| {size} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ingress_connections() -> str:
    """Return what more connections change, at one event a request."""
    sides = load("ingress")["sides"]
    names = sorted((name for name in sides["headrace"] if name.startswith("1x")), key=lambda name: int(name[2:]))
    lines = ["| connections | side | requests/s | p50 ms | p99 ms | refused | broken |", "|---" * 7 + "|"]
    keys = ("requests_per_s", "p50_ms", "p99_ms", "refused", "broken")
    for name in names:
        for side in _ORDER[:3]:
            cells = [str(figures(sides[side][name], key)) for key in keys]
            lines.append(f"| {name[2:]} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ingress_half() -> str:
    """Return the latency at half of the load, alone and beside large requests."""
    ours = load("ingress")["sides"]["headrace"]
    keys = {
        "per_s": "requests/s",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "refused": "refused",
        "unanswered": "unanswered",
    }
    named = {"alone": ours["half"], "beside a request of 5 MiB every 100 ms": ours["half, large beside"]}
    return table(named, keys, "load")


def ingress_idle() -> str:
    """Return the memory with idle connections."""
    idle = load("ingress")["idle"]
    return (
        f"The process tree of one ingress took {idle['before_mib']:.0f} MiB after the load and {idle['mib']:.0f} MiB"
        f" with {idle['connections']:,} open, silent connections."
    )


def sink_costs() -> str:
    """Return the sink's costs and rates."""
    keys = {
        "rows_per_s": "rows/s",
        "worker_us_per_row": "worker us/row",
        "engine_us_per_row": "ClickHouse us/row",
        "both_us_per_row": "both us/row",
        "rows_per_insert": "rows an insert",
    }
    return table(load("sink")["sides"], keys)


def sink_ratios() -> str:
    """Return headrace's figures beside the naive consumer's."""
    sides = load("sink")["sides"]
    ours, naive, files = sides["headrace"], sides["naive consumer"], sides["engine, from files"]
    cpu = median(ours, "both_us_per_row") / median(naive, "both_us_per_row")
    return (
        f"headrace moves {median(ours, 'rows_per_s') / median(naive, 'rows_per_s'):.1f} times the rows of the naive"
        f" consumer, for {cpu:.2f} of the processor time."
        f" ClickHouse's part is {median(ours, 'engine_us_per_row') / median(files, 'engine_us_per_row'):.1f} times what"
        f" it takes for the same rows from files. The worker's memory was {median(ours, 'worker_mib'):.0f} MiB."
    )


def freshness_table() -> str:
    """Return how old events are when they can be selected."""
    keys = {
        "p50_s": "p50 s",
        "p99_s": "p99 s",
        "max_s": "largest s",
        "inserts_per_s": "inserts/s",
        "cores": "cores of worker and ClickHouse",
    }
    return table(load("freshness")["sides"], keys)


def costs() -> Costs:
    """Return the measured costs of an event on its way."""
    return costs_of(load("ingress"), load("sink"), median)


def plans() -> list[Plan]:
    """Return the plan of each rate."""
    return [plan(rate, costs(), Assumptions()) for rate in RATES]


def stages_of(one: Plan) -> Stages:
    """Return what the stages of a plan can do: twice its rate, and as much from the spools as comes in."""
    return Stages(one.rate * 2, one.rate, one.capacity_rows_per_s)


def costs_table() -> str:
    """Return the costs that the plans count with."""
    have = costs()
    rows = (
        ("ingress, 10 events a request", f"{have.ingress_us:.1f} us/event"),
        ("a broker, writing and reading", f"{have.broker_us:.1f} us/event"),
        ("worker", f"{have.worker_us:.1f} us/event"),
        ("ClickHouse, merges included", f"{have.engine_us:.1f} us/event"),
        ("one worker behind a backlog, on two shared cores", f"{have.worker_rows_per_s:,.0f} rows/s"),
        ("request", f"{have.request_bytes:.0f} bytes/event"),
        ("log, one copy", f"{have.log_bytes:.0f} bytes/event"),
        ("table, one replica", f"{have.table_bytes:.0f} bytes/event"),
    )
    return "\n".join(("| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)))


def queue_table() -> str:
    """Return what the simulation shows for each plan."""
    lines = [
        "| rate | trouble | answered 503 | most in spools | largest lag | oldest event | recovered after |",
        "|---" * 7 + "|",
    ]
    for one in plans():
        for name, trouble in (
            ("a crowd of 2 times the rate, 10 min", flash_crowd(one.rate, 2)),
            ("a crowd of 10 times the rate, 10 min", flash_crowd(one.rate)),
            ("ClickHouse away for an hour", outage(one.rate)),
            ("all brokers away for an hour", outage(one.rate, of_brokers=True)),
        ):
            seen = simulate(stages_of(one), trouble)
            spool = amount(seen.spool_max * costs().log_bytes, "B")
            cells = (f"{seen.refused:.0%}", spool, amount(seen.lag_max), f"{seen.age_s_max:,.0f} s")
            lines.append(f"| {amount(one.rate)}/s | {name} | {' | '.join(cells)} | {seen.recovered_s / 60:.0f} min |")
    return "\n".join(lines)


def links(prefix: str) -> str:
    """Return links to the charts whose names begin so."""
    if not (made := [name for name in charts() if name.startswith(prefix)]):
        raise FileNotFoundError(prefix)
    return "\n".join(f"![{name.removesuffix('.svg')}](charts/{name})" for name in made)


TABLES: Final[dict[str, dict[str, Callable[[], str]]]] = {
    PERFORMANCE: {
        "machine": machine_line,
        "ingress-cpu": ingress_cpu,
        "ingress-charts": lambda: links("ingress"),
        "ingress-connections": ingress_connections,
        "ingress-half": ingress_half,
        "ingress-idle": ingress_idle,
        "sink-costs": sink_costs,
        "sink-ratios": sink_ratios,
        "sink-charts": lambda: links("sink"),
        "freshness": freshness_table,
        "targets": targets_table,
        "freshness-charts": lambda: links("freshness"),
    },
    answers.PAGE: answers.answers()
    | {
        "questions-machine": answers.machine,
        "questions-tables": answers.tables,
        "questions-costs": answers.costs,
        "final-price": answers.final_price,
        "indexes": answers.indexes,
    },
    scaled.PAGE: {"scaling": scaled.table, "scaling-charts": lambda: links("scaling")},
    SCALE: {"costs": costs_table, "plans": lambda: plan_table(plans()), "queue": queue_table},
}


def charts() -> dict[str, str]:
    """Return the charts by file name; none before all is measured."""
    try:
        return _charts()
    except FileNotFoundError:
        return {}


def _charts() -> dict[str, str]:
    ingress, sink = load("ingress")["sides"], load("sink")["sides"]

    def of(sides: Mapping[str, Any], key: str, name: str = "") -> list[tuple[str, Figures]]:
        rounds = {side: seen[name] if name else seen for side, seen in sides.items()}
        return [(side, figures(seen, key)) for side, seen in rounds.items()]

    made = {
        f"ingress-{size}.svg": bars(
            f"Ingress, {size} a request: CPU us an event", of(ingress, "cpu_us_per_event", name)
        )
        for name, size in _LOADS.items()
    }
    made["sink-rate.svg"] = bars("Sink: rows a second", of(sink, "rows_per_s"))
    made["sink-cpu.svg"] = bars("Sink: CPU us a row, worker and ClickHouse", of(sink, "both_us_per_row"))
    made |= scaled.charts()
    made["freshness.svg"] = bars("Freshness: p99, seconds", of(load("freshness")["sides"], "p99_s"))
    return made


def rendered(path: str) -> str:
    """Return a document with its tables written again; those whose figures are missing say so."""
    text = (ROOT / path).read_text("utf-8")
    for name, made in TABLES[path].items():
        try:
            table_text = made()
        except FileNotFoundError:
            table_text = NOT_MEASURED
        text = replace_table(text, name, table_text)
    return text


def main() -> None:
    """Write the tables and charts."""
    for path in TABLES:
        (ROOT / path).write_text(rendered(path), "utf-8")
    _CHARTS.mkdir(exist_ok=True)
    for name, text in charts().items():
        (_CHARTS / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
