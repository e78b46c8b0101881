"""The intent: the exact range that a worker is about to insert, remembered in the group's commit metadata.

One atomic write at the broker both remembers the range and fences: a member that the group has expelled can't make it.
The text is `1|topic id|a|b|excluded`, under the broker's default bound of 4096 bytes (offset.metadata.max.bytes).
`excluded` are runs of offsets, each as its distance from the end of the run before it (the first: from a), with `+n`
where n more follow: with a = 10, "2,1+3" stands for 12, 14, 15, 16, 17. Numbers in it are hexadecimal. Offsets from b
on are among them when a range was made smaller after their dead letters were out.
A mark without a range (a == b) says only which incarnation of the topic its offset belongs to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_VERSION: Final = "1"
METADATA_BYTES_MAX: Final = 4000  # the broker's default is 4096
EXCLUDED_MAX: Final = 400  # so many always fit: each takes at most 9 characters, with its comma


class UnreadableError(ValueError):
    """A commit's metadata is not ours, or of a newer worker."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Offsets [a, b) of one partition in one incarnation of its topic, without the excluded ones (ascending)."""

    topic_id: str
    a: int
    b: int
    excluded: tuple[int, ...] = ()

    @property
    def is_range(self) -> bool:
        """Whether there is anything to insert."""
        return self.b > self.a

    @property
    def fits(self) -> bool:
        """Whether the broker takes its text."""
        return len(self.encode()) <= METADATA_BYTES_MAX

    def encode(self) -> str:
        """Return the metadata text."""
        end, runs = self.a, []
        for first, more in _runs(self.excluded):
            runs.append(f"{first - end:x}+{more:x}" if more else f"{first - end:x}")
            end = first + more + 1
        return "|".join((_VERSION, self.topic_id, str(self.a), str(self.b), ",".join(runs)))


def decode(metadata: str) -> Intent | None:
    """Read a commit's metadata; "" is None: a tool that moves offsets leaves none.

    Raises:
        UnreadableError: it is not ours, or of a newer worker.
    """
    if not metadata:
        return None
    version, *fields = metadata.split("|")
    if version != _VERSION or len(fields) != 4:  # noqa: PLR2004  (the four fields above)
        raise UnreadableError("the commit's metadata is no intent of this version")
    topic_id, a, b, excluded = fields
    try:
        return Intent(topic_id, int(a), int(b), tuple(_offsets(int(a), excluded)))
    except ValueError as error:
        raise UnreadableError("the commit's metadata is a broken intent") from error


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each run of successive offsets: its first, and how many more follow."""
    first = last = None
    for offset in offsets:
        if first is not None and last is not None and offset != last + 1:
            yield first, last - first
            first = None
        first, last = (offset if first is None else first), offset
    if first is not None and last is not None:
        yield first, last - first


def _offsets(end: int, text: str) -> Iterable[int]:
    for run in text.split(",") if text else ():
        distance, _, more = run.partition("+")
        first = end + int(distance, 16)
        end = first + int(more or "0", 16) + 1
        yield from range(first, end)
