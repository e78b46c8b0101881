"""What a day looks like to Prometheus: every series of the services, calm, with a cause in the middle, calm again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

BEGINS: Final = 10
"""The step at which a cause begins."""
_STEPS: Final = 100
_COUNTERS: Final = ("_total", "_bucket", "_count", "_sum")
_AUDIT: Final = "_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Ramp:
    """A gauge that rises by so much a step."""

    per_step: float


Value = float | Ramp | None
"""A gauge's value, or how much a counter grows in a step; None: the series is not there."""


def named(name: str, labels: Mapping[str, str]) -> str:
    """Return a series as PromQL writes it."""
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}" if pairs else name


def scraped(page: str, job: str) -> Iterator[tuple[str, tuple[str, float]]]:
    """Yield each series of a page by its name there, with its name in Prometheus and its value."""
    target = {"job": job, "instance": f"{job}:80"}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield named(sample.name, sample.labels), (named(sample.name, sample.labels | target), sample.value)


def values_of(name: str, calm: float, cause: Value, lasts: int, first: float = 0.0) -> str:
    """Return the values of one series, a step each.

    Args:
        name: the series.
        calm: a gauge's value, or a counter's growth, before the cause and after it.
        cause: the same during the cause.
        lasts: how many steps the cause lasts.
        first: a counter's first value.
    """
    values: list[str] = []
    now = first
    for step in range(_STEPS):
        is_cause = BEGINS <= step < BEGINS + lasts
        wanted = cause if is_cause else calm
        if wanted is None:
            values.append("_")
        elif name.partition("{")[0].endswith(_AUDIT):  # a moment that goes on, or stands still
            now = now if is_cause and cause != calm else 60.0 * step
            values.append(f"{now:g}")
        elif isinstance(wanted, Ramp):
            values.append(f"{calm + wanted.per_step * (step - BEGINS):.10g}")
        elif name.partition("{")[0].endswith(_COUNTERS):
            now += wanted
            values.append(f"{now:.10g}")
        else:
            values.append(f"{wanted:.10g}")
    return " ".join(values)
