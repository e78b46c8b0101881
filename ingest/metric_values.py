"""The numbers of a process's metrics in its files, for prometheus-client."""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key


class Files:
    """This process's files by their kind, and the lock of all values in them."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._files: dict[str, MmapedDict] = {}
        self.lock = threading.Lock()

    def place(self, kind: str, key: str) -> tuple[Any, int]:
        """Return a file's memory as doubles, and a value's index there; a new value is added as 0."""
        with self.lock:
            file = self._files.get(kind)
            if file is None:
                path = os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"{kind}_{self._number}.db")  # noqa: PTH118
                file = self._files[kind] = MmapedDict(path)  # type: ignore[no-untyped-call]  # prometheus-client's
            file.read_value(key)  # type: ignore[no-untyped-call]
            return memoryview(file._m).cast("d"), file._positions[key] // 8  # noqa: SLF001  (no public way)


class SharedValue:
    """A number in a file of the metrics, written where it stands: prometheus-client's own takes twice as long at least.

    Aligned and written at once, it is never seen half written by the process that reads the file.
    """

    _multiprocess = True

    def __init__(  # noqa: PLR0913, PLR0917  (prometheus-client calls it)
        self,
        files: Files,
        kind: str,
        metric: str,
        name: str,
        labels: Sequence[str],
        label_values: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
    ) -> None:
        key = mmap_key(metric, name, list(labels), list(label_values), help_text)
        file_kind = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        self.doubles, self.at = files.place(file_kind, key)
        self._lock = files.lock

    def inc(self, amount: float) -> None:
        """Add."""
        with self._lock:
            self.doubles[self.at] += amount

    def observer(self, buckets: "Sequence[SharedValue]", bounds: Sequence[float]) -> Callable[[float], None]:
        """Return a function that adds an observation to this sum and to its bucket."""
        lock, sums, sum_at = self._lock, self.doubles, self.at
        places = [(bucket.doubles, bucket.at) for bucket in buckets]

        def observe(value: float) -> None:
            counts, at = places[bisect_left(bounds, value)]
            with lock:
                sums[sum_at] += value
                counts[at] += 1

        return observe

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002  (prometheus-client's form)
        """Replace."""
        self.doubles[self.at] = value

    def get(self) -> float:
        """Return it."""
        return float(self.doubles[self.at])

    def get_exemplar(self) -> None:
        """Return none: files hold none."""
