"""The intent: the exact range that a worker is about to insert, remembered in the group's commit metadata.

One atomic write at the broker both remembers the range and fences: a member that the group has expelled can't make it.
The text is `1|topic id|a|b|excluded`, under the broker's default bound of 4096 bytes (offset.metadata.max.bytes).
A mark without a range (a == b) says only which incarnation of the topic its offset belongs to.
"""

from dataclasses import dataclass
from typing import Final

_VERSION: Final = "1"
EXCLUDED_MAX: Final = 400  # with at most 8 hexadecimal digits and a comma each: 3600 bytes


@dataclass(frozen=True, slots=True)
class Intent:
    """Offsets [a, b) of one partition in one incarnation of its topic, without the excluded ones."""

    topic_id: str
    a: int
    b: int
    excluded: tuple[int, ...] = ()

    @property
    def is_range(self) -> bool:
        """Whether there is anything to insert."""
        return self.b > self.a

    def encode(self) -> str:
        """Return the metadata text; excluded offsets stand as hexadecimal distances from a."""
        excluded = ",".join(f"{offset - self.a:x}" for offset in self.excluded)
        return "|".join((_VERSION, self.topic_id, str(self.a), str(self.b), excluded))


def decode(metadata: str) -> Intent | None:
    """Read a commit's metadata; None when no worker of ours wrote it."""
    version, *fields = metadata.split("|")
    if version != _VERSION or len(fields) != 4:  # noqa: PLR2004  (the four fields above)
        return None
    topic_id, a, b, excluded = fields
    try:
        first = int(a)
        return Intent(topic_id, first, int(b), tuple(first + int(item, 16) for item in excluded.split(",") if item))
    except ValueError:
        return None
