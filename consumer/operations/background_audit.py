"""Audits in the background: each worker audits its own partitions, so the metrics add up to the whole topic."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from consumer.delivery.ports import CommittedOffset, Metrics, Partition
from consumer.errors import ConsumerError
from consumer.health import HealthMonitor
from consumer.kafka.admin import LogBounds, Topic
from consumer.operations.audit import Auditor
from consumer.operations.background import in_background
from consumer.operations.runs import Runs
from consumer.operations.spans import Finding, Span, intended

log = logging.getLogger(__name__)


class Group(Protocol):
    """What the background audit asks the cluster; consumer.kafka.admin.Cluster implements it."""

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, CommittedOffset]:
        """Return the group's committed offsets."""

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, LogBounds]:
        """Return where each partition's log begins and ends."""

    def topic(self, name: str) -> Topic | None:
        """Return a topic, or None when it does not exist."""


Keep = Callable[[Sequence[Mapping[str, object]]], None]
"""Writes rows of the table `audits`."""


class BackgroundAudit:
    """Audits the partitions of a HealthMonitor repeatedly; one thread calls `run_once`.

    It skips offsets that were clean before, offsets that the log no longer has, and deleted topics: `audit` covers
    those. A missing offset counts when two runs in a row miss it, because a dead letter reaches its topic before its
    table.
    """

    def __init__(
        self, auditor: Auditor, cluster: Group, monitor: HealthMonitor, metrics: Metrics, keep: Keep | None = None
    ) -> None:
        self._auditor = auditor
        self._cluster = cluster
        self._monitor = monitor
        self._metrics = metrics
        self._keep = keep
        self._clean_to: dict[tuple[Partition, str], int] = {}
        self._suspects: set[tuple[Partition, str]] = set()

    def run_once(self) -> list[Finding]:
        """Audit once, set the metrics, and return the findings that are not clean.

        Raises:
            Transient, Fatal: a server is away, or refuses.
        """
        findings = [self._auditor.audit(span) for span in self._spans()]
        for finding in findings:
            if finding.is_clean:
                self._clean_to[finding.span.partition, finding.span.topic_id] = finding.span.end
        dirty = [item for item in findings if not item.is_clean]
        wrong = [item for item in dirty if item.duplicates or item.uncounted or _name(item) in self._suspects]
        self._metrics.set("audit_missing", sum(item.missing.count for item in dirty if _name(item) in self._suspects))
        self._metrics.set("audit_uncounted", sum(item.uncounted.count for item in wrong))
        self._metrics.set("audit_duplicates", sum(item.duplicates for item in wrong))
        self._metrics.set("audit_timestamp_seconds", time.time())
        self._record([item if _name(item) in self._suspects else replace(item, missing=Runs()) for item in findings])
        self._suspects = {_name(item) for item in dirty}
        return wrong

    def _record(self, findings: Sequence[Finding]) -> None:
        if self._keep is None or not findings:
            return
        try:
            self._keep([row_of(finding, "worker") for finding in findings])
        except ConsumerError as error:  # the metrics and the log have what was found
            log.warning("an audit was not recorded", extra={"reason": str(error)[:300]})

    def _spans(self) -> list[Span]:
        owned = [partition for partition in self._monitor.progress if partition.topic in self._auditor.tables]
        if not owned:
            return []
        marks = self._cluster.committed(owned)  # before reading the table, so that committed offsets are in it
        lows = {partition: bounds.low for partition, bounds in self._cluster.bounds(owned).items()}
        topics = {name: self._cluster.topic(name) for name in {partition.topic for partition in owned}}
        spans, adopted = [], self._auditor.adopted()
        for partition, mark in marks.items():
            intent, topic = intended(mark), topics[partition.topic]
            if topic is None or (intent and intent.topic_id != topic.topic_id):
                continue
            place = (partition, topic.topic_id)
            low = max(lows[partition], self._clean_to.get(place, 0), adopted.get(place, 0))
            spans.append(Span(partition, topic.topic_id, min(low, mark.offset), mark.offset))
        return spans


def auditing_in_background(background_audit: BackgroundAudit, every_s: float) -> AbstractContextManager[None]:
    """Call `run_once` on a thread every `every_s` seconds until the block is left; 0 means never."""

    def audit() -> None:
        for finding in background_audit.run_once():
            log.error("audit", extra=facts(finding))

    return in_background("audit", audit, every_s)


def facts(finding: Finding) -> dict[str, object]:
    """Return a finding as the members of a log line or a JSON line."""
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
        "unknown": finding.untold.count,
        "unknown_offsets": str(finding.untold),
        "uncounted": finding.uncounted.count,
        "uncounted_offsets": str(finding.uncounted),
        "duplicates": finding.duplicates,
        "duplicate_offsets": str(finding.duplicates_shown),
        "expired": finding.expired,
    }


def row_of(finding: Finding, audited_by: str) -> dict[str, object]:
    """Return a finding as a row of the table `audits`."""
    row = facts(finding)
    unnamed = ("from", "to", "unknown_offsets", "uncounted_offsets")
    return {name: value for name, value in row.items() if name not in unnamed} | {
        "audited_by": audited_by,
        "low": finding.span.low,
        "end": finding.span.end,
    }


def _name(finding: Finding) -> tuple[Partition, str]:
    return finding.span.partition, finding.span.topic_id
