"""Reads the /metrics pages of the ingress and the workers, and tells how fast their counters rise."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_TIMEOUT_S: Final = 2.0


class Page:
    """The samples of one page."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[Sample]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append(sample)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 when there is none."""
        return sum(sample.value for sample in self._matching(name, labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the sums of a metric's samples by one more label."""
        sums: dict[str, float] = {}
        for sample in self._matching(name, labels):
            value = sample.labels.get(label, "")
            sums[value] = sums.get(value, 0.0) + sample.value
        return sums

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterator[Sample]:
        found = self._samples.get(name, [])
        return (sample for sample in found if labels.items() <= sample.labels.items())


def read_page(url: str) -> Page | None:
    """Return the page at a URL, or None when it can't be read."""
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  (an address of this pipeline)
            return Page(answer.read().decode("utf-8", "replace"))
    except (URLError, OSError, ValueError):
        return None


class Rates:
    """Remembers counters of the last seconds. A counter that fell, after a restart, has no rate for that time."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, Mapping[str, float]]] = deque()

    def add(self, now_s: float, counters: Mapping[str, float]) -> None:
        """Remember counters; `now_s` is monotonic and never falls."""
        self._seen.append((now_s, counters))
        while self._seen[0][0] < now_s - self._over_s:
            self._seen.popleft()

    def per_s(self, name: str) -> float | None:
        """Return a counter's rise per second; None before it was seen twice."""
        began_s, ended_s = self._seen[0][0], self._seen[-1][0]
        rise = self._rise(name)
        return None if rise is None or ended_s <= began_s else rise / (ended_s - began_s)

    def mean(self, total: str, count: str) -> float | None:
        """Return the rise of one counter for each step of another; None when the latter did not rise."""
        of_total, of_count = self._rise(total), self._rise(count)
        return None if not of_count or of_total is None else of_total / of_count

    def _rise(self, name: str) -> float | None:
        first, last = (seen.get(name) for seen in (self._seen[0][1], self._seen[-1][1]))
        return None if first is None or last is None or last < first else last - first
