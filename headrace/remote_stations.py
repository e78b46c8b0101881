"""Asks the stations behind the ingress: Kafka's topics, the workers' group, and by remote_tables.py ClickHouse."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from consumer.delivery.ports import Assigned, Partition, Record
from consumer.errors import ConsumerError
from consumer.kafka.admin import Cluster, LogBounds, Topic
from consumer.kafka.scan import Progress, Span, TopicReader
from consumer.operations.lag import note_of
from consumer.operations.preflight import find_topics
from consumer.parts import connect, kafka_properties
from headrace.findings import Finding, State, Station
from headrace.identity import Identity
from headrace.reach import Part, Reach
from headrace.remote_tables import Tables
from headrace.services import Services
from headrace.stations import Matcher, moment, not_named
from schemas.codec import LETTER_HEADER

_PATIENCE_S: Final = 5.0


class RemoteStations:
    """Asks the tables and the log; a server without an address is unknown."""

    def __init__(self, services: Services, matcher: Matcher, timeout_s: float) -> None:
        self._settings = services.consumer()
        self._matcher, self._timeout_s = matcher, timeout_s
        without_table = services.missing("CLICKHOUSE_URL")
        patience_s = max(_PATIENCE_S, min(timeout_s, self._settings.insert_timeout_s))
        connection = None if without_table else connect(self._settings).patient(patience_s)
        self._tables = Tables(connection, matcher, without_table)
        self._without_log = services.missing("BOOTSTRAP_SERVERS")
        self._log: Log | None = None

    def tables(self, identity: Identity, *, is_last: bool = False) -> list[Finding]:
        """Return the rows and the dead letters that an identity names; the last time replicas are waited for before."""
        if is_last:
            self._tables.await_replicas()
        return self._tables.ask(identity)

    def log(self, identity: Identity, reach: Reach, told: Callable[[Progress], None]) -> Iterator[Finding]:
        """Yield the records that are named, and how far the workers are with each.

        Raises:
            ConsumerError: the brokers do not answer.
        """
        if self._without_log:
            yield Finding(Station.TOPIC, State.UNKNOWN, self._without_log)
            return
        settings = self._settings
        names = [settings.topic, settings.dead_letter_topic]
        self._log = log = Log(kafka_properties(settings), settings.group_id, names)
        log.look()
        records, looked_at, is_whole, left_out = log.search(
            self._matcher, identity.needles, reach, self._timeout_s, told
        )
        for record in records:
            yield of_record(record)
            yield log.progress(record)
        if not is_whole:
            sentence = f"not read to the end within {self._timeout_s:g} s: {looked_at}"
            yield Finding(Station.TOPIC, State.UNKNOWN, sentence)
        elif not records and left_out:
            yield Finding(Station.TOPIC, State.UNKNOWN, f"not among {looked_at}; {left_out}")
        elif not records:
            yield not_named(Station.TOPIC, identity, f"not among {looked_at}")

    def fate(self, place: str) -> list[Finding]:
        """Return what became of a record that the workers have passed, and that no row or dead letter names.

        A record of the dead-letter topic never was a row.
        """
        topic, number, offset = place.rsplit("/", 2)
        topic_id = self._log.topics[topic].topic_id if self._log else ""
        is_letter = not self.is_event(place)
        return self._tables.ask_about(Partition(topic, int(number)), topic_id, int(offset), is_letter=is_letter)

    def is_event(self, place: str) -> bool:
        """Tell whether a place is in the topic of events; the id by which it was found is then an event's."""
        return place.rsplit("/", 2)[0] == self._settings.topic


class Log:
    """Asks Kafka: the records of both topics, and how far the group is."""

    def __init__(self, properties: Mapping[str, str | int], group: str, topics: Sequence[str]) -> None:
        self._properties, self._group, self._names = properties, group, topics
        self.topics: Mapping[str, Topic] = {}
        self._bounds: Mapping[Partition, LogBounds] = {}
        self._cluster: Cluster | None = None

    def look(self) -> None:
        """Ask where both logs begin and end.

        Raises:
            ConsumerError: no broker can say.
        """
        self._cluster = Cluster(self._properties, self._group)
        self.topics = find_topics(self._cluster, self._names)
        places = [Partition(name, number) for name, topic in self.topics.items() for number in range(topic.partitions)]
        self._bounds = self._cluster.bounds(places)

    def search(
        self, matcher: Matcher, needles: Sequence[bytes], reach: Reach, timeout_s: float,
        told: Callable[[Progress], None],
    ) -> tuple[list[Record], str, bool, str]:  # fmt: skip
        """Return the records that are named, what was looked at, whether that was all of it, and what was left out.

        Raises:
            ConsumerError: the brokers can't be read.
        """
        bounds = {place: (at.low, at.end) for place, at in self._bounds.items()}
        deadline_s = time.monotonic() + timeout_s
        with self._reader() as reader:
            spans = reader.spans(bounds, reach.since_ms, reach.until_ms)
            found, seen, is_whole = reader.search(spans, needles, deadline_s, told)
        named = _named(found, matcher)
        if not named and is_whole and not reach.is_given:
            unread = self._unread(spans)
            reach = reach._replace(begins=reach.begins and unread is not None)
            with self._reader() as reader:
                found, more, is_whole = reader.search(unread or {}, needles, deadline_s, told)
            named, seen = _named(found, matcher), seen + more
            spans |= {place: span._replace(first=unread[place].first) for place, span in spans.items() if unread}
        left_out = reach.left_out(Part(*span, bounds[place][1]) for place, span in spans.items())
        return named, _looked_at(spans, seen, (reach.since_ms, reach.until_ms)), is_whole, left_out

    def _reader(self) -> TopicReader:
        return TopicReader(self._properties, f"{self._group}.find")

    def _unread(self, spans: Mapping[Partition, Span]) -> dict[Partition, Span] | None:
        """Return what lies before spans and the group has not passed; None when this account may not know that.

        No table can have it yet. The clock that made an id may have been ahead, and then its record is older than it.
        """
        try:
            marks = self._cluster.committed(list(spans)) if self._cluster else {}
        except ConsumerError:
            return None
        passed = {place: marks[place].offset if place in marks else span.low for place, span in spans.items()}
        return {
            place: Span(span.low, min(span.first, max(span.low, passed[place])), span.first)
            for place, span in spans.items()
        }

    def progress(self, record: Record) -> Finding:
        """Return whether the group has passed a record."""
        place = f"{record.partition.topic}/{record.partition.number}/{record.offset}"
        if self._cluster is None:
            return Finding(Station.GROUP, State.UNKNOWN, "no broker was asked", place)
        try:
            mark = self._cluster.committed([record.partition]).get(record.partition)
        except ConsumerError as error:
            return Finding(Station.GROUP, State.UNKNOWN, str(error), place)
        if mark is not None and mark.offset > record.offset:
            return Finding(Station.GROUP, State.PASSED, f"the workers have committed {mark.offset}", place)
        bounds = self._bounds[record.partition]
        note = note_of(
            Assigned(record.partition, self.topics[record.partition.topic].topic_id, mark, bounds.low), bounds
        )
        behind = record.offset - (mark.offset if mark else bounds.low) + 1
        detail = f"the workers have not committed it yet, {behind} records to go" + (f"; {note}" if note else "")
        return Finding(Station.GROUP, State.ABSENT, detail, place)


def _named(found: Sequence[Record], matcher: Matcher) -> list[Record]:
    return [record for record in found if matcher.is_named(record.value, dict(record.headers))]


def _looked_at(spans: Mapping[Partition, Span], seen: int, between_ms: tuple[int, int]) -> str:
    cut = [place for place, span in spans.items() if span.low > 0 and span.first == span.low]
    text = f"{seen} records, written from {moment(between_ms[0])} to {moment(between_ms[1])} or not yet inserted"
    oldest = ", ".join(f"{place.topic}/{place.number}" for place in cut)
    return f"{text}; older ones are deleted in {oldest}" if cut else text


def of_record(record: Record) -> Finding:
    """Return a record of a topic as a finding."""
    place = f"{record.partition.topic}/{record.partition.number}/{record.offset}"
    headers = dict(record.headers)
    reason, error = (
        headers.get(f"{LETTER_HEADER}{name}", b"").decode("utf-8", "replace") for name in ("reason", "error")
    )
    written = f"written {moment(record.timestamp_ms)}" if record.timestamp_ms >= 0 else "written"
    detail = f"{written}; a dead letter, {reason}: {error}" if reason else written
    return Finding(Station.TOPIC, State.FOUND, detail, place)
