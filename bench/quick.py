"""A look of a minute: has anything become slower? It compares ratios between sides of one run.

Run `python -m bench.quick`; it fails when a ratio is worse than the kept one by more than the tolerance. `--keep` keeps
the ratios of this run instead.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Final

import bench.ingress
import bench.sink
from bench.kept import keep, load
from bench.pages import median
from bench.sample_events import bodies

TOLERANCE: Final = 0.35
"""How much worse a ratio may be: so much do short rounds vary on a machine that does other things too."""
_ROWS: Final = 100_000
_SINK_ROUNDS: Final = 2
_SMALLER_IS_BETTER: Final = {
    "ingress CPU, 1 a request: headrace / naive": True,
    "ingress CPU, 100 a request: headrace / naive": True,
    "ingress CPU, 1 a request: headrace / empty coroutine": True,
    "sink CPU: headrace / naive": True,
    "sink rows/s: headrace / naive": False,
}


def ratios(ingress: Mapping[str, Any], sink: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratios of two benches' figures."""
    ours, naive, empty = (ingress[side] for side in (bench.ingress.HEADRACE, bench.ingress.NAIVE, bench.ingress.EMPTY))
    cpu = "cpu_us_per_event"
    worker, consumer = sink[bench.sink.HEADRACE], sink[bench.sink.NAIVE]
    values = (
        median(ours["1x32"], cpu) / median(naive["1x32"], cpu),
        median(ours["100x32"], cpu) / median(naive["100x32"], cpu),
        median(ours["1x32"], cpu) / median(empty["1x32"], cpu),
        median(worker, "both_us_per_row") / median(consumer, "both_us_per_row"),
        median(worker, "rows_per_s") / median(consumer, "rows_per_s"),
    )
    return dict(zip(_SMALLER_IS_BETTER, values, strict=True))


def worse(now: Mapping[str, float], kept: Mapping[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """Return the names of the ratios that are worse than the kept ones by more than the tolerance."""
    return [
        name
        for name, smaller_is_better in _SMALLER_IS_BETTER.items()
        if (now[name] / kept[name] if smaller_is_better else kept[name] / now[name]) > 1 + tolerance
    ]


def measure() -> dict[str, float]:
    """Run both benches for a short time, and return their ratios."""
    options = argparse.Namespace(seconds=1, rounds=3, connections=[], sizes=(1, 100), idle=0, no_half=True)
    ingress = bench.ingress.run(options)["sides"]
    sides = (bench.sink.HEADRACE, bench.sink.NAIVE)
    with bench.sink.rig(list(bodies(_ROWS, _ROWS))) as servers:
        sink = {side: [bench.sink.consume(side, servers) for _ in range(_SINK_ROUNDS)] for side in sides}
    return ratios(ingress, sink)


def main() -> None:
    """Measure, and compare or keep."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--keep", action="store_true", help="keep these ratios")
    options = asked.parse_args()
    now = measure()
    if options.keep:
        keep("quick", {"ratios": now})
        return
    try:
        kept = load("quick")["ratios"]
    except FileNotFoundError:
        sys.exit(f"nothing is kept to compare with (--keep keeps it): {now}")
    slower = worse(now, kept)
    for name, value in now.items():
        print(f"{name}: {value:.2f}, kept {kept[name]:.2f}{' WORSE' if name in slower else ''}")
    sys.exit(bool(slower))


if __name__ == "__main__":
    main()
