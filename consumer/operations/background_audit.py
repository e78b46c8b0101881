"""The audit in the background: each worker audits what it owns, so the group's figures add up to the whole topic."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from consumer.delivery.ports import Mark, Meter, Partition
from consumer.errors import ConsumerError
from consumer.health import Watch
from consumer.kafka.admin import Bounds, Topic
from consumer.operations.audit import Auditor, Finding, Span, intended

log = logging.getLogger(__name__)


class Group(Protocol):
    """What a patrol asks of the cluster; consumer.kafka.admin.Cluster is one."""

    def committed(self, places: Sequence[Partition]) -> Mapping[Partition, Mark]:
        """Return the group's marks."""

    def bounds(self, places: Sequence[Partition]) -> Mapping[Partition, Bounds]:
        """Return where each partition's log begins and ends."""

    def topic(self, name: str) -> Topic | None:
        """Return a topic as it is now."""


class Patrol:
    """Audits the partitions that a watch knows, again and again; one thread calls `round`.

    What was found clean is not looked at again below the offset it reached, nor what the log holds no more, nor a topic
    that is gone: the command tells of those. What is missing counts when two rounds in a row miss it: a dead letter is
    on its topic before it is in its table.
    """

    def __init__(self, auditor: Auditor, cluster: Group, watch: Watch, meter: Meter) -> None:
        self._auditor = auditor
        self._cluster = cluster
        self._watch = watch
        self._meter = meter
        self._clean_to: dict[tuple[Partition, str], int] = {}
        self._suspects: set[tuple[Partition, str]] = set()

    def round(self) -> list[Finding]:
        """Audit once, set the metrics, and return what is wrong.

        Raises:
            Transient, Fatal: a server is away, or refuses.
        """
        findings = [self._auditor.audit(span) for span in self._spans()]
        for finding in findings:
            if finding.is_clean:
                self._clean_to[finding.span.partition, finding.span.topic_id] = finding.span.end
        dirty = [item for item in findings if not item.is_clean]
        wrong = [item for item in dirty if item.duplicates or item.uncounted or _name(item) in self._suspects]
        self._meter.level("audit_missing", sum(item.missing.count for item in dirty if _name(item) in self._suspects))
        self._meter.level("audit_uncounted", sum(item.uncounted.count for item in wrong))
        self._meter.level("audit_duplicates", sum(item.duplicates for item in wrong))
        self._meter.level("audit_timestamp_seconds", time.time())
        self._suspects = {_name(item) for item in dirty}
        return wrong

    def _spans(self) -> list[Span]:
        owned = [place for place in self._watch.standings if place.topic in self._auditor.tables]
        if not owned:
            return []
        marks = self._cluster.committed(owned)  # before the table is read: what is committed is in it
        lows = {place: bounds.low for place, bounds in self._cluster.bounds(owned).items()}
        topics = {name: self._cluster.topic(name) for name in {place.topic for place in owned}}
        spans = []
        for place, mark in marks.items():
            intent, topic = intended(mark), topics[place.topic]
            if topic is None or (intent and intent.topic_id != topic.topic_id):
                continue
            low = max(lows[place], self._clean_to.get((place, topic.topic_id), 0))
            spans.append(Span(place, topic.topic_id, min(low, mark.offset), mark.offset))
        return spans


@contextmanager
def patrolling(patrol: Patrol, every_s: float) -> Iterator[None]:
    """Call `round` on a thread every so many seconds until the block is left; 0 is never."""
    stop = threading.Event()

    def walk() -> None:
        while not stop.wait(every_s):
            try:
                wrong = patrol.round()
            except ConsumerError as error:
                log.warning("audit put off", extra={"reason": str(error)})
                continue
            for finding in wrong:
                log.error("audit", extra=facts(finding))

    thread = threading.Thread(target=walk, name="patrol", daemon=True)
    if every_s > 0:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join(5)


def facts(finding: Finding) -> dict[str, object]:
    """Return a finding for a log line or a line of JSON."""
    return {
        "topic": finding.span.partition.topic,
        "topic_id": finding.span.topic_id,
        "partition": finding.span.partition.number,
        "from": finding.span.low,
        "to": finding.span.end,
        "rows": finding.rows,
        "offsets": finding.offsets,
        "dead_letters": finding.letters,
        "missing": finding.missing.count,
        "missing_offsets": str(finding.missing),
        "untold": finding.untold.count,
        "untold_offsets": str(finding.untold),
        "uncounted": finding.uncounted.count,
        "uncounted_offsets": str(finding.uncounted),
        "duplicates": finding.duplicates,
        "duplicate_offsets": str(finding.duplicates_shown),
    }


def _name(finding: Finding) -> tuple[Partition, str]:
    return finding.span.partition, finding.span.topic_id
