"""What is known of one partition of a stopped group, and what a command would do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.offsets import Reading
from consumer.delivery.intent import Intent, UnreadableError, decode
from consumer.delivery.opening import mirrored_from
from consumer.delivery.ports import CommittedOffset, Partition

_FOREIGN: Final = "another program or a newer release commits in this group: use its own commands"
_MIRRORED: Final = "it was committed in another Kafka cluster: run `python -m consumer adopt`"
_RECREATED: Final = "the topic was recreated: the worker reads it from its start by itself"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one partition.

    Attributes:
        partition: the partition.
        topic_id: the topic's ID.
        low: the oldest offset of the log.
        end: the offset after its newest record.
        mark: the group's commit.
        readings: what is in the tables.
        kept: offsets of the mark's own range that are rows of its reading, or that it leaves out and are dead letters.
        kept_before: the same of the commit to which a second reading returns.
        used: the highest number of a reading that another mark of the partition has named.
        cluster_id: the Kafka cluster's id; "" when not known.
    """

    partition: Partition
    topic_id: str
    low: int
    end: int
    mark: CommittedOffset | None
    readings: Sequence[Reading] = ()
    kept: frozenset[int] = frozenset()
    kept_before: frozenset[int] = frozenset()
    used: int = 0
    cluster_id: str = ""

    @property
    def inserted_end(self) -> int:
        """The offset after the last one in the tables."""
        return max((reading.end for reading in self.readings), default=0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do with one partition.

    Attributes:
        partition: the partition.
        why: one sentence that says what was found.
        mark: what to commit; None when nothing needs to be done, or can be.
        is_refused: the request can't be done.
    """

    partition: Partition
    why: str
    mark: CommittedOffset | None = None
    is_refused: bool = False


def readable(facts: Facts) -> tuple[Intent | None, Plan | None]:
    """Return the commit's intent, or a plan that says why it can't be used."""
    try:
        intent = decode(facts.mark.metadata) if facts.mark else None
    except UnreadableError:
        return None, refused(facts, _FOREIGN)
    if intent is not None and facts.mark and mirrored_from(facts.mark, facts.cluster_id):
        return None, refused(facts, _MIRRORED)
    if intent is not None and intent.topic_id != facts.topic_id:
        return None, Plan(facts.partition, _RECREATED)
    return intent, None


def refused(facts: Facts, why: str) -> Plan:
    """Return a plan that does nothing, because the request can't be done."""
    return Plan(facts.partition, why, is_refused=True)
