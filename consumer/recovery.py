"""The commands resume, reprocess, adopt and downgrade of `python -m consumer`: they change a group's commits."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from consumer.arguments import OFFSET_MAX
from consumer.clickhouse.notes import write_adoptions
from consumer.clickhouse.offsets import OffsetsTable, delete_rows
from consumer.clickhouse.replication import synced
from consumer.clickhouse.servers import each_shard
from consumer.commands import operator, say, show, spans
from consumer.delivery.intent import Intent
from consumer.delivery.opening import known_cluster_id
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.errors import ConsumerError, Fatal, Misconfigured
from consumer.kafka.admin import Cluster
from consumer.kafka.admin_connection import AdminConnection
from consumer.operations.audit import Auditor
from consumer.operations.deletion import delete_read_again
from consumer.operations.divergence import RecordAt
from consumer.operations.facts import Facts, Plan
from consumer.operations.group import StoppedGroup
from consumer.operations.plans import adopt, before_detour, downgrade, reprocess, resume
from consumer.operations.preflight import find_topics
from consumer.operations.spans import intended
from consumer.parts import connect, kafka_properties, targets
from consumer.settings import SERVERS, Settings
from schemas.arguments import moment_ms, whole_number

REPROCESS: Final = """
Makes workers read offsets again: rows were deleted or are wrong, ClickHouse was restored from a
backup, or `audit` lists missing offsets. Every record read again becomes a row again, under a new
reading number. With an end, the partition then returns to where it is now; without one, it reads
on to the newest record. Prints what it would do; does it with --go, when all workers are stopped.

--missing reads what `audit` finds missing, in all partitions or the named ones: from the first
missing offset to the last. --delete first deletes the rows that will come again, so that no row is
there twice (`events_unique` shows each event once in any case). It is refused
when a row's record is no longer in the log (an unclean election), or its leader epoch is unknown.

Times are Kafka timestamps. Offsets that the log no longer has can't be read again.

  python -m consumer reprocess --missing --go
  python -m consumer reprocess --partition events/3 --from-offset 100 --to-offset 200 --go
  python -m consumer reprocess --partition events/0 --from-time 2026-01-31 --to-time 2026-02-01 --delete
"""
Planner = Callable[[Facts, RecordAt], Plan]
_ERASED: Final = (
    "people who were erased come back with what is read again: when `lag` shows 0, run"
    " `python -m consumer erase --again --go`"
)
_NOTE_AGAIN: Final = "run this command again before the workers start, else audits miss what was inserted before"
_NOT_THERE: Final = "argument --partition: there is no "


def run_resume(settings: Settings, arguments: Namespace) -> int:
    """Resume halted partitions: after the rows in the tables, with every record since."""
    return Marks(settings).run(arguments, resume)


def run_adopt(settings: Settings, arguments: Namespace) -> int:
    """Go on with the commits of another Kafka cluster, of which this one has a copy."""
    marks = Marks(settings)
    adopted = marks.adopted()

    def plan(facts: Facts, _: RecordAt) -> Plan:
        return adopt(facts, facts.cluster_id, is_noted=(facts.partition, facts.topic_id) in adopted)

    return marks.run(arguments, plan, marks.note_adopted)


def run_downgrade(settings: Settings, arguments: Namespace) -> int:
    """Rewrite the commits in the previous release's format."""
    return Marks(settings).run(arguments, lambda facts, _: downgrade(facts))


def add_reprocess(again: ArgumentParser) -> None:
    """Add the arguments of reprocess."""
    offset = whole_number(0, OFFSET_MAX)
    again.add_argument("--missing", action="store_true", help="what `audit` finds missing")
    again.add_argument("--from-offset", type=offset, help="the first offset to read again")
    again.add_argument("--from-time", type=moment_ms, help="the same as a Kafka timestamp (UTC)")
    again.add_argument("--to-offset", type=offset, help="the first offset not to read again")
    again.add_argument("--to-time", type=moment_ms, help="the same as a Kafka timestamp (UTC)")
    again.add_argument("--delete", action="store_true", help="first delete the rows that will come again")
    again.set_defaults(call=run_reprocess, needed=SERVERS)


def run_reprocess(settings: Settings, arguments: Namespace) -> int:
    """Make workers read offsets again."""
    marks = Marks(settings)
    if arguments.missing:
        given = (arguments.from_offset, arguments.from_time, arguments.to_offset, arguments.to_time)
        if any(one is not None for one in given):
            raise Misconfigured("argument --missing: says itself where to begin and to end")
        firsts, stops = marks.missing(marks.partitions(arguments))
    else:
        firsts, stops = _named_bounds(marks, arguments)
    if not firsts:
        say("nothing is missing", sys.stderr)
        return 0
    arguments.partition = [tuple(partition) for partition in firsts]
    code = marks.run(
        arguments,
        lambda facts, at: _read_again(
            facts, firsts[facts.partition], stops[facts.partition], at, is_deleting=arguments.delete
        ),
    )
    if arguments.go and not code:
        say(_ERASED, sys.stderr)
    return code


_Bounds = tuple[Mapping[Partition, int], Mapping[Partition, int | None]]


def _named_bounds(marks: "Marks", arguments: Namespace) -> _Bounds:
    """Return where each named partition is read from, and up to where.

    Raises:
        Misconfigured: the arguments don't say it.
    """
    if (arguments.from_offset is None) == (arguments.from_time is None):
        raise Misconfigured("give either --from-offset or --from-time")
    if arguments.to_offset is not None and arguments.to_time is not None:
        raise Misconfigured("give --to-offset or --to-time, not both")
    by_offset = arguments.from_offset is not None or arguments.to_offset is not None
    if not arguments.partition or (by_offset and len(arguments.partition) > 1):
        raise Misconfigured("argument --partition: name one; an offset belongs to a single partition")
    partitions = marks.partitions(arguments)
    firsts = marks.moments(partitions, arguments.from_time) or dict.fromkeys(partitions, arguments.from_offset)
    stops = marks.moments(partitions, arguments.to_time) or dict.fromkeys(partitions, arguments.to_offset)
    return firsts, stops


def _read_again(facts: Facts, first: int, stop: int | None, record_at: RecordAt, *, is_deleting: bool) -> Plan:
    if first < 0:
        return Plan(facts.partition, "no record is that new: there is nothing to read again")
    if stop is not None and stop < 0:  # no record is newer: read up to the committed offset
        stop = facts.mark.offset if facts.mark else None
    return reprocess(facts, first, stop, record_at, is_deleting=is_deleting)


class Marks:
    """Collects facts about partitions, plans, and commits with --go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        properties = kafka_properties(settings)
        admin = AdminConnection(properties)
        self._cluster = Cluster(properties, settings.group_id, admin)
        self._group = StoppedGroup(properties, settings.group_id, admin)
        self._tables = {target.topic: target.table for target in targets(settings)}
        self._connection = connect(settings)
        self._offsets = OffsetsTable(self._connection, self._tables)
        self._cluster_id = known_cluster_id(self._cluster.cluster_id())
        self._topics = find_topics(self._cluster, [settings.topic, settings.dead_letter_topic])

    def partitions(self, arguments: Namespace) -> list[Partition]:
        """Return the named partitions, or all.

        Raises:
            Misconfigured: a named partition does not exist.
        """
        known = [Partition(name, number) for name, topic in self._topics.items() for number in range(topic.partitions)]
        wanted = [Partition(*name) for name in arguments.partition]
        for partition in wanted:
            if partition not in known:
                raise Misconfigured(f"{_NOT_THERE}{partition.topic}/{partition.number}")
        return wanted or known

    def moments(self, partitions: list[Partition], at_ms: int | None) -> dict[Partition, int]:
        """Return each partition's first offset at a time or later; {} when no time is given."""
        return {} if at_ms is None else self._group.offsets_at(partitions, at_ms)

    def missing(self, partitions: list[Partition]) -> _Bounds:
        """Return the first and the last missing offset of each partition that lacks any, by an audit.

        Raises:
            Fatal: so much is missing, in so many places, that an audit does not list it.
        """
        auditor = Auditor(self._connection, self._tables, self._cluster.gaps)
        firsts, stops = dict[Partition, int](), dict[Partition, int | None]()
        for span in spans(auditor, self._cluster, self._topics):
            if span.partition not in partitions or span.is_gone:
                continue
            found = auditor.audit(span).missing
            if found and not found.is_bounded:
                raise Fatal(f"{_too_many(span.partition)}: name the offsets with --from-offset and --to-offset")
            if found:
                firsts[span.partition], stops[span.partition] = found.bounds
        return firsts, stops

    def adopted(self) -> Collection[tuple[Partition, str]]:
        """Return which partitions of copies were adopted, under which topic IDs."""
        return Auditor(self._connection, self._tables, None).adopted().keys()

    def note_adopted(self, plans: Sequence[Plan]) -> None:
        """Note which offsets of the copy were inserted as those of the original, so that no audit misses them."""
        rows = [
            {
                "topic": made.partition.topic,
                "topic_id": self._topics[made.partition.topic].topic_id,
                "partition": made.partition.number,
                "end": made.mark.offset,
                "adopted_by": operator(),
            }
            for made in plans
            if made.mark is not None
        ]
        write_adoptions(self._connection, rows)

    def run(
        self, arguments: Namespace, plan: Planner, note: Callable[[Sequence[Plan]], object] = lambda _: None
    ) -> int:
        """Plan for the partitions, print the plans, commit them with --go; return the exit code.

        `note` writes down what was committed; it is called without plans before, and must succeed.
        """
        if arguments.go:
            self._group.check_stopped()
        plans = list(self._plans(self.partitions(arguments), plan))
        show([_line(made) for made in plans], as_json=arguments.json)
        marks = {made.partition: made.mark for made in plans if made.mark is not None}
        if any(made.is_refused for made in plans):
            say("nothing was committed: see above", sys.stderr)
            return 1
        if not marks or not arguments.go:
            say(
                f"nothing was committed; add --go for {len(marks)} partitions" if marks else "nothing to do", sys.stderr
            )
            return 0
        note(())
        self._group.commit(marks)
        try:
            note(plans)
        except ConsumerError as error:
            say(f"committed {len(marks)} partitions, but that is not noted: {error}; {_NOTE_AGAIN}", sys.stderr)
            return 1
        kept = self._delete(plans) if getattr(arguments, "delete", False) else 0
        say(f"committed {len(marks)} partitions: start the workers", sys.stderr)
        return 1 if kept else 0

    def _delete(self, plans: Sequence[Plan]) -> int:
        """Delete the rows that the committed plans read again; return of how many partitions they were kept."""
        told = list(delete_read_again(plans, self._group, self._offsets.readings, self._delete_rows, time.sleep))
        for one in told:
            where = f"{one.partition.topic}/{one.partition.number}"
            said = f"kept the earlier rows of {where}, which come again beside them: {one.why_not}"
            say(said if one.why_not else f"deleted {one.rows} rows of {where}", sys.stderr)
        return sum(bool(one.why_not) for one in told)

    def _delete_rows(self, partition: Partition, intent: Intent) -> int:
        with each_shard(self._connection) as shards:
            table, places = self._tables[partition.topic], shards.values() or [self._connection]
            current = [synced(one, table) or one for one in places]
            return sum(delete_rows(one, table, partition, intent) for one in current)

    def _plans(self, partitions: list[Partition], plan: Planner) -> Iterator[Plan]:
        marks, bounds = self._cluster.committed(partitions), self._group.bounds(partitions)
        for partition in partitions:
            with self._group.reading(partition) as record_at:
                yield plan(self._facts(partition, bounds[partition], marks.get(partition)), record_at)

    def _facts(self, partition: Partition, bounds: tuple[int, int], mark: CommittedOffset | None) -> Facts:
        topic_id = self._topics[partition.topic].topic_id
        readings = self._offsets.readings(partition, topic_id)
        intent = intended(mark) if mark else None
        before = intended(before_detour(intent.detour)) if intent and intent.detour else None
        kept = self._kept(partition, intent), self._kept(partition, before)
        return Facts(partition, topic_id, *bounds, mark, readings, *kept, cluster_id=self._cluster_id)

    def _kept(self, partition: Partition, intent: Intent | None) -> frozenset[int]:
        return self._offsets.kept(partition, intent) if intent and intent.is_range else frozenset()


def _too_many(partition: Partition) -> str:
    return f"{partition.topic}/{partition.number} lacks offsets in too many places"


def _line(plan: Plan) -> dict[str, object]:
    intent = intended(plan.mark) if plan.mark else None
    return {
        "topic": plan.partition.topic,
        "partition": plan.partition.number,
        "goes_on_at": plan.mark.offset if plan.mark else "",
        "reading": intent.reading if intent else "",
        "finding": plan.why,
    }
