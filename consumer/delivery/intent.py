"""The intent: the exact range that a worker is about to insert, remembered in the group's commit metadata.

One atomic write at the broker both remembers the range and fences: a member that the group has expelled can't make it.
The text is under the broker's default bound of 4096 bytes (offset.metadata.max.bytes):

    1|topic id|a|b|excluded
    2|topic id|a|b|excluded|leader epoch|reading|cluster id|shard|detour

`excluded` are offsets as excluded.py writes them.
A mark without a range (a == b) says only which log its offset belongs to.

Version 2 is written. Version 1 is read, and is written again as long as its range is not finished: another text would
have another token, and the range would be inserted twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consumer.delivery.excluded import decode_excluded, encode_excluded

METADATA_BYTES_MAX: Final = 4000  # the broker's default is 4096
NO_EPOCH: Final = -1
"""The leader epoch is not known: an old broker, or the embedded one. Nothing is compared with it."""
NO_SHARD: Final = -1
_V1: Final = 1
_V2: Final = 2
_FIELDS: Final = {_V1: 4, _V2: 9}  # behind the version


class UnreadableError(ValueError):
    """A commit's metadata is not ours, or of a newer worker."""


class Origin(NamedTuple):
    """Which log records come from, and in which reading: columns of each of their rows.

    Attributes:
        topic_id: the topic's ID.
        leader_epoch: of the leader that wrote them into the log.
        reading: 0, and one more each time that an operator has offsets read again.
    """

    topic_id: str
    leader_epoch: int = NO_EPOCH
    reading: int = 0


@dataclass(frozen=True, slots=True)
class Detour:
    """A second reading that ends: at `end` the group goes on with the commit that it had before.

    Attributes:
        end: the first offset that is not read again.
        offset: of the commit to go back to.
        leader_epoch: of the same.
        metadata: of the same, as it stood; perhaps an intent with a range.
    """

    end: int
    offset: int
    leader_epoch: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Intent:
    """Offsets [a, b) of one partition under one topic ID, without the excluded ones (ascending).

    Attributes:
        topic_id: the incarnation.
        a: the first offset, and the one that is committed.
        b: the offset behind the last record.
        excluded: offsets of dead letters.
        leader_epoch: of every record of the range; without a range, of the last record below a. A log that was cut and
            has grown again has the same offsets under another epoch. NO_EPOCH: not known.
        reading: 0, and one more each time that an operator has offsets read again.
        cluster_id: of the Kafka cluster; "" is not said.
        shard: of the ClickHouse cluster that the range goes to; NO_SHARD is not said.
        detour: where a second reading ends, if it does.
        version: of its text and its token.
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
        """Where its records come from."""
        return Origin(self.topic_id, self.leader_epoch, self.reading)

    @property
    def is_range(self) -> bool:
        """Whether there is anything to insert."""
        return self.b > self.a

    @property
    def end(self) -> int:
        """The offset behind all that it names: dead letters may lie behind its range."""
        return max(self.b, self.excluded[-1] + 1 if self.excluded else 0)

    @property
    def fits(self) -> bool:
        """Whether the broker takes its text."""
        return len(self.encode()) <= METADATA_BYTES_MAX

    def encode(self) -> str:
        """Return the metadata text."""
        excluded = encode_excluded(self.a, self.excluded, is_plain=self.version == _V1)
        fields = [self.version, self.topic_id, self.a, self.b, excluded]
        if self.version != _V1:
            fields += [self.leader_epoch, self.reading, self.cluster_id, self.shard, _encode_detour(self.detour)]
        return "|".join(map(str, fields))

    def token(self, namespace: str, partition: int) -> str:
        """Return the start of the deduplication tokens of its range: no other rows may ever have it.

        `namespace` names the Kafka cluster. The layouts are a contract with workers of other versions:

            1: namespace/topic id/partition/a/b
            2: 2/namespace/topic id/partition/leader epoch/reading/a/b
        """
        if self.version == _V1:
            return f"{namespace}/{self.topic_id}/{partition}/{self.a}/{self.b}"
        return f"2/{namespace}/{self.topic_id}/{partition}/{self.leader_epoch}/{self.reading}/{self.a}/{self.b}"


def decode(metadata: str) -> Intent | None:
    """Read a commit's metadata; "" is None: a tool that moves offsets leaves none.

    Raises:
        UnreadableError: it is not ours, or of a newer worker.
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
