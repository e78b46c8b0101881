"""Reports how far the group is behind in each partition, and why.

Lag counts up to the last readable record: an open transaction holds back every record from its first one on, until its
producer commits or aborts it.
"""

import time
from collections.abc import Mapping
from typing import Final

from consumer.advice import Sentence
from consumer.delivery.intent import Intent, UnreadableError, decode
from consumer.delivery.opening import MIRRORED, RESUME, known_cluster_id, mirrored_from, open_state
from consumer.delivery.ports import Assigned, Partition
from consumer.kafka.admin import Cluster, LogBounds, Topic

RUN: Final = "run `python -m consumer run`"


def lag_lines(cluster: Cluster, topics: Mapping[str, Topic]) -> list[dict[str, object]]:
    """Return a line for each partition of the topics.

    Raises:
        Transient, Fatal: as the packages' errors.py say.
    """
    partitions = [Partition(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
    marks, bounds = cluster.committed(partitions), cluster.bounds(partitions)
    cluster_id = known_cluster_id(cluster.cluster_id())
    lines = []
    for partition in partitions:
        item = Assigned(partition, topics[partition.topic].topic_id, marks.get(partition), bounds[partition].low)
        lines.append(_line(cluster, item, bounds[partition], cluster_id))
    return lines


def _line(cluster: Cluster, item: Assigned, bounds: LogBounds, cluster_id: str) -> dict[str, object]:
    partition = item.partition
    position = item.committed.offset if item.committed else bounds.low
    notes = [note_of(item, bounds, cluster_id)]
    if bounds.high > bounds.end:
        notes.append(kept_back(cluster.servers, partition, bounds, _age_s(cluster.time_at(partition, bounds.end))))
    return {
        "topic": partition.topic,
        "partition": partition.number,
        "committed": position,
        "end": bounds.end,
        "lag": max(0, bounds.end - position),
        "note": "; ".join(filter(None, notes)),
    }


def note_of(item: Assigned, bounds: LogBounds, cluster_id: str = "") -> str:
    """Return a note about a partition's committed offset, "" when there is nothing to say."""
    if item.committed is None:
        return f"nothing is committed yet: {RUN}"
    try:
        intent = decode(item.committed.metadata)
    except UnreadableError:
        intent = None
    if other := mirrored_from(item.committed, cluster_id):
        return f"halted: {MIRRORED.format(other=other, own=cluster_id)}"
    if intent and intent.topic_id != item.topic_id:
        return f"committed before the topic was recreated; the new topic is read from its start: {RUN}"
    if halt := open_state(item, shards=max(0, intent.shard) if intent else 0).halt:
        return f"halted: {halt.why}"
    if item.committed.offset > bounds.high:
        return f"halted: its log ends at offset {bounds.high}; {RESUME}"
    return _under_way(intent) if intent else ""


def _under_way(intent: Intent) -> str:
    if intent.detour:
        return f"reads offsets up to {intent.detour.end} again, then continues from {intent.detour.offset}"
    if intent.is_range:
        return f"intent [{intent.a}, {intent.b}): the partition's worker inserts it; if there is none, {RUN}"
    return ""


def kept_back(servers: str, partition: Partition, bounds: LogBounds, age_s: float | None) -> str:
    """Return a note about records held back by an open transaction, with Kafka's commands against it."""
    since = "" if age_s is None else f" for {age_s:.0f} s"
    what = {"count": bounds.high - bounds.end, "offset": bounds.end, "since": since}
    return Sentence.KEPT_BACK.format(servers=servers, topic=partition.topic, partition=partition.number, **what)


def _age_s(at_ms: int | None) -> float | None:
    return max(0.0, time.time() - at_ms / 1000) if at_ms is not None and at_ms > 0 else None
