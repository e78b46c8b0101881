"""The intent: the exact range that a worker is about to insert, stored in the group's commit metadata.

One atomic write at the broker both stores the range and fences: the broker refuses an expelled member's commit.
The text fits the broker's default limit of 4096 bytes (offset.metadata.max.bytes):

    1|topic id|a|b|excluded
    2|topic id|a|b|excluded|leader epoch|reading|cluster id|shard|detour

`excluded` are offsets as excluded.py encodes them.
A commit without a range (a == b) says only which log its offset belongs to.

New intents have version 2. A version 1 intent is written in version 1 again until its range is finished: in version 2
it would get another token, and the range would be inserted twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consumer.delivery.excluded import decode_excluded, encode_excluded

METADATA_BYTES_MAX: Final = 4000  # the broker's default is 4096
NO_EPOCH: Final = -1
"""The leader epoch is unknown: an old broker, or the embedded one. Nothing is compared with it."""
NO_SHARD: Final = -1
_V1: Final = 1
_V2: Final = 2
_FIELDS: Final = {_V1: 4, _V2: 9}  # after the version


class UnreadableError(ValueError):
    """A commit's metadata is not ours, or a newer worker's."""


class Origin(NamedTuple):
    """The log that records come from, and the reading: columns of their rows.

    Attributes:
        topic_id: the topic's ID.
        leader_epoch: the epoch of the leader that wrote them.
        reading: 0, and one more each time an operator has offsets read again.
    """

    topic_id: str
    leader_epoch: int = NO_EPOCH
    reading: int = 0


@dataclass(frozen=True, slots=True)
class Detour:
    """A second reading with an end: there the group returns to its earlier commit.

    Attributes:
        end: the first offset that is not read again.
        offset: the earlier commit's offset.
        leader_epoch: the earlier commit's leader epoch.
        metadata: the earlier commit's metadata, unchanged; perhaps an intent with a range.
    """

    end: int
    offset: int
    leader_epoch: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Intent:
    """Offsets [a, b) of one partition under one topic ID, without the excluded ones (ascending).

    Attributes:
        topic_id: the topic's ID.
        a: the first offset, at which the intent is committed.
        b: the offset after the last record.
        excluded: the offsets of dead letters.
        leader_epoch: the epoch of every record in the range; without a range, of the last record below a. A log that
            was cut and has grown again has the same offsets under another epoch. NO_EPOCH: unknown.
        reading: 0, and one more each time an operator has offsets read again.
        cluster_id: the Kafka cluster's id; "" when not given.
        shard: the ClickHouse shard that the range goes to; NO_SHARD when not given.
        detour: the end of a second reading, if it has one.
        version: the version of its text and token.
    """

    topic_id: str
    a: int
    b: int
    excluded: tuple[int, ...] = ()
    leader_epoch: int = NO_EPOCH
    reading: int = 0
    cluster_id: str = ""
    shard: int = NO_SHARD
    detour: Detour | None = None
    version: int = _V2

    @property
    def origin(self) -> Origin:
        """The origin of its records."""
        return Origin(self.topic_id, self.leader_epoch, self.reading)

    @property
    def is_range(self) -> bool:
        """Whether there is anything to insert."""
        return self.b > self.a

    @property
    def end(self) -> int:
        """The offset after everything it names: excluded offsets may lie beyond its range."""
        return max(self.b, self.excluded[-1] + 1 if self.excluded else 0)

    @property
    def fits(self) -> bool:
        """Whether its text fits the broker's limit."""
        return len(self.encode()) <= METADATA_BYTES_MAX

    def encode(self) -> str:
        """Return the metadata text."""
        excluded = encode_excluded(self.a, self.excluded, is_plain=self.version == _V1)
        fields = [self.version, self.topic_id, self.a, self.b, excluded]
        if self.version != _V1:
            fields += [self.leader_epoch, self.reading, self.cluster_id, self.shard, _encode_detour(self.detour)]
        return "|".join(map(str, fields))

    def token(self, namespace: str, partition: int) -> str:
        """Return the prefix of its range's deduplication tokens, which must be unique to its rows.

        `namespace` is the Kafka cluster's id. The formats are a contract with workers of other versions:

            1: namespace/topic id/partition/a/b
            2: 2/namespace/topic id/partition/leader epoch/reading/a/b
        """
        if self.version == _V1:
            return f"{namespace}/{self.topic_id}/{partition}/{self.a}/{self.b}"
        return f"2/{namespace}/{self.topic_id}/{partition}/{self.leader_epoch}/{self.reading}/{self.a}/{self.b}"


def decode(metadata: str) -> Intent | None:
    """Decode a commit's metadata; "" gives None: tools that move offsets write no metadata.

    Raises:
        UnreadableError: it is not ours, or a newer worker's.
    """
    if not metadata:
        return None
    version = {"1": _V1, "2": _V2}.get(metadata.partition("|")[0], 0)
    fields = metadata.split("|", _FIELDS.get(version, 0))[1:]
    if len(fields) != _FIELDS.get(version) or (version == _V1 and "|" in fields[-1]):
        raise UnreadableError("the commit's metadata is no intent of a version that this worker knows")
    try:
        return _of_fields(version, fields)
    except ValueError as error:
        raise UnreadableError("the commit's metadata is a broken intent") from error


def _of_fields(version: int, fields: Sequence[str]) -> Intent:
    topic_id, a, b, excluded, *more = fields
    offsets = tuple(decode_excluded(int(a), excluded))
    if version == _V1:
        return Intent(topic_id, int(a), int(b), offsets, version=version)
    epoch, reading, cluster_id, shard, detour = more
    return Intent(
        topic_id, int(a), int(b), offsets, int(epoch), int(reading), cluster_id, int(shard), _decode_detour(detour)
    )


def _encode_detour(detour: Detour | None) -> str:
    return f"{detour.end}:{detour.offset}:{detour.leader_epoch}:{detour.metadata}" if detour else ""


def _decode_detour(text: str) -> Detour | None:
    if not text:
        return None
    end, offset, epoch, metadata = text.split(":", 3)
    return Detour(int(end), int(offset), int(epoch), metadata)
