"""The `Log` of a worker: one member of a group. The polling thread makes all calls.

The package's docstring says how the library and the brokers behave.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.delivery.ports import CommittedOffset, Listener, Membership, Partition, Polled, Position
from consumer.errors import Transient
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.commits import Commits
from consumer.kafka.connectivity import Connectivity
from consumer.kafka.ends import Ends
from consumer.kafka.formation import Formation
from consumer.kafka.messages import place_of, places_of, read_records, topic_partition, unavailable
from consumer.kafka.poll_findings import PollFindings
from consumer.kafka.presence import Presence
from consumer.kafka.properties import PINNED, REPORTING
from consumer.kafka.refusals import GROUP, Refusals, check, ends_client, is_refusal, of_reading, of_topic
from consumer.kafka.starts import Starts, seek
from consumer.kafka.survey import Survey

log = logging.getLogger(__name__)

_CALL_S: Final = 10.0
_CLOSE_S: Final = 5.0
_RENEW_S: Final = 15.0
_SESSION_MS: Final = 45_000  # the default of clients, and of brokers for KIP-848
_RECORDS_MAX: Final = 5000
_POLL_BYTES_MAX: Final = 8 * 1024 * 1024
_PORTION: Final = 50  # small, because one call may return more than was queued when it began, whatever the size
_NOWHERE: Final = Position(0)  # for a paused partition, which is not fetched


class KafkaLog:
    """A `Log`, and the `Topics`, over confluent-kafka. Only `id_of` may be called from other threads."""

    def __init__(self, properties: Mapping[str, str | int], topics: Sequence[str], admin: AdminConnection) -> None:
        self._commits = Commits()
        self._properties = {**properties, **PINNED}
        self._refusals = Refusals(str(properties["group.id"]))
        self._session_s = int(properties.get("session.timeout.ms", _SESSION_MS)) / 1000
        self._consumer = self._member()
        self._survey = Survey(admin, self._consumer)
        self._ends = Ends(self._survey)
        self._starts = Starts(self._survey, self._ends, self._refusals)
        self._presence = Presence(admin, topics)
        self._connectivity = Connectivity(lambda: self._presence.answered_s, topics[0], monotonic)
        self._topics = list(topics)
        self._listener: Listener
        self._formation = Formation(properties)
        self._owned: set[Partition] = set()
        self._given_up: set[Partition] = set()  # during this poll
        self._unavailable: dict[Partition, str] = {}  # that may not be read, since the last poll
        self._wants_rejoin = False
        self._renew_at_s: float | None = None
        self._is_closing = False
        self._is_classic = properties.get("group.protocol", "classic") == "classic"

    def _member(self) -> Consumer:
        return Consumer(
            self._properties, on_commit=self._commits.answered, **{**REPORTING, "error_cb": self._take_report}
        )

    @property
    def refusal(self) -> str:
        """Which rights this member lacks, beside those to read partitions that it owns; "" when it has them all."""
        return self._refusals.sentence

    def cluster_id(self) -> str:
        """Return the cluster's id.

        Raises:
            Transient: no broker answers.
        """
        client = self._survey.admin.client
        try:
            return str(client.list_topics(timeout=_CALL_S).cluster_id)
        except KafkaException as error:
            self._survey.admin.renew(client)
            raise Transient(f"no broker answers: {error}") from error

    def id_of(self, topic: str) -> str:
        """Return the topic's present ID, asking a broker each time. Any thread may call."""
        try:
            return self._survey.id_of(topic)
        except KafkaException as error:
            raise of_topic(topic, error.args[0]) from error

    def listen(self, listener: Listener) -> None:
        """Join the group; `listener` hears of assignments during `poll` and `close`."""
        self._listener = self._starts.listener = listener
        self._subscribe()

    def poll(self, timeout_s: float) -> Polled:
        """Return new records and events; see `Log`."""
        if self._renew_at_s is not None and monotonic() >= self._renew_at_s:
            self._renew()
        self._renew_if_cut_off()
        if self._wants_rejoin and self._renew_at_s is None:
            self._wants_rejoin = False
            self._consumer.unsubscribe()
            self._subscribe()
        self._starts.retry()
        self._survey.admin.log_messages()
        self._commits.send(self._transmit)
        began_s = monotonic()
        found = PollFindings()
        records = found.records
        for portion in self._portions(timeout_s, found):
            at = read_records(portion, 0, records)
            while at < len(portion):
                self._take_error(portion[at], found)
                at = read_records(portion, at + 1, records)
        found.denied |= {place: why for place, why in self._unavailable.items() if place in self._owned}
        self._unavailable.clear()
        known = {place: self._known_end(place) for place in {record.partition for record in records} & self._owned}
        polled = found.polled(self._commits.take_answers(), known)
        if polled.records or polled.ends:
            self._connectivity.has_any()
        self._lift(polled, began_s)
        return polled

    def _take_report(self, error: KafkaError) -> None:
        """Log an error; note the partition if its topic was refused before a fetch of it: then no message tells."""
        REPORTING["error_cb"](error)
        place = unavailable(error)
        if place is not None and is_refusal(error):
            self._unavailable[place] = of_reading(place.topic, error)

    def _take_error(self, message: Message, found: PollFindings) -> None:
        error = message.error()
        if error is None or found.takes(message, error):
            return
        if not is_refusal(error):
            self._check(error)
        elif (place := place_of(message)) in self._owned:
            found.denied[place] = of_reading(place.topic, error)
        else:
            self._refused(message.topic() or "", error)

    def _lift(self, polled: Polled, began_s: float) -> None:
        """Lift what this poll and the last look at the topics show to be allowed; an assignment is not always due."""
        if not self.refusal:
            return
        names = {record.partition.topic for record in polled.records} | {place.topic for place in polled.ends}
        if any(answer.error is None for answer in polled.answers):
            names.add(GROUP)
        self._refusals.worked(names, began_s)
        if self._formation.is_formed:  # a group that refuses heartbeats takes the partitions when the session is over
            self._refusals.worked((GROUP,), began_s - self._session_s)
        self._refusals.described({topic: self._presence.described.get(topic, float("-inf")) for topic in self._topics})

    def _refused(self, topic: str, error: KafkaError) -> None:
        """Note what is refused beside single partitions; a fatal error ends this client, and a new one follows it."""
        self._refusals.note(topic, error)
        if ends_client(error) and self._renew_at_s is None:
            self._renew_at_s = monotonic() + _RENEW_S
            self._lose_all()

    def _lose_all(self) -> None:
        self._listener.lost(gone := sorted(self._owned))
        self._forget(gone)

    def _renew_if_cut_off(self) -> None:
        if self._renew_at_s is not None or (self._owned and self._is_classic):
            self._connectivity.has_any()  # if a classic owner does not, its session ends, and it owns nothing
        elif self._connectivity.is_cut_off(self._consumer, owns=bool(self._owned)):
            log.warning("the group's client reaches no broker although others do: replacing it")
            self._lose_all()
            self._renew()

    def _renew(self) -> None:
        """Join the group with a new client. What the old one says from now on is nobody's."""
        self._renew_at_s = None
        self._commits = Commits()  # the old client's may never be answered, or be answered late
        old, self._consumer = self._consumer, self._member()
        self._survey.consumer = self._consumer
        threading.Thread(target=old.close, name="leave", daemon=True).start()
        self._subscribe()

    def _portions(self, timeout_s: float, found: PollFindings) -> Iterator[list[Message]]:
        """Yield portions until the timeout or the bound on one poll; between polls the memory bound is enforced.

        If a commit was answered, a poll ends after this portion: an insert may wait for that answer.

        What was found of a partition that is given up meanwhile is dropped: it may be assigned again within the same
        poll, and then begins at an earlier offset.
        """
        deadline_s = monotonic() + timeout_s
        count = size_bytes = 0
        self._given_up.clear()
        while count < _RECORDS_MAX and size_bytes < _POLL_BYTES_MAX:
            portion = self._consumer.consume(_PORTION, max(0.0, deadline_s - monotonic()))
            if self._given_up:
                found.drop(self._given_up)
                self._given_up.clear()
            if not portion:
                return
            count += len(portion)
            size_bytes += sum(map(len, portion))
            yield portion
            if self._commits.has_answers:
                return

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Send commits, now or when earlier ones are answered; see `Log`."""
        self._commits.hold(marks)
        self._commits.send(self._transmit)

    def pause(self, partition: Partition) -> None:
        """Stop reading a partition."""
        self._consumer.pause([TopicPartition(*partition)])
        self._ends.monitor(partition)

    def resume(self, partition: Partition) -> None:
        """Continue reading a partition."""
        self._consumer.resume([TopicPartition(*partition)])
        self._ends.forget(partition)

    def seek(self, partition: Partition, position: Position) -> bool:
        """Read a partition from here on; see `Log`."""
        return seek(self._consumer, partition, position)

    def rejoin(self) -> None:
        """Give up all partitions and rejoin the group at the next poll."""
        self._wants_rejoin = True

    def end_of(self, partition: Partition) -> int | None:
        """Return the partition's last known end, without waiting; None when it is unknown."""
        end = max(self._known_end(partition), self._ends.of(partition))
        return end if end >= 0 else None

    def _known_end(self, partition: Partition) -> int:
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        return int(high)

    def membership(self) -> Membership:
        """Return how this member stands with its group and its topics, without waiting."""
        is_formed = self._formation.is_formed and not self._starts.is_waiting
        return Membership(is_formed, self._presence.gone(), self._formation.trouble, self.refusal)

    def close(self) -> None:
        """Leave the group after the listener has finished; wait only a few seconds for a broker that is away."""
        if self._owned:
            self._hand_over(sorted(self._owned))
        self._is_closing = True
        leaving = threading.Thread(target=self._consumer.close, name="leave", daemon=True)
        leaving.start()
        leaving.join(_CLOSE_S)
        if leaving.is_alive():
            log.warning("left the group without committing: no broker answers")

    def _check(self, error: KafkaError) -> None:
        """Log an error that the client recovers from; raise on one that it does not."""
        check(error)
        self._formation.failed(error)

    def _subscribe(self) -> None:
        self._formation.joining()
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        self._formation.assigned()
        self._refusals.assigned()
        self._owned.update(places := places_of(partitions))
        starts = {} if self._is_closing else self._starts.open(places)
        placed = [topic_partition(place, starts.get(place) or _NOWHERE) for place in places]
        (consumer.incremental_assign if self._formation.is_incremental else consumer.assign)(placed)
        consumer.pause(placed)
        self._starts.begin(starts)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._formation.revoked()
            if not self._is_closing:
                self._hand_over(places_of(partitions))
        self._unassign(consumer, partitions)

    def _transmit(self, place: TopicPartition) -> None:
        self._consumer.commit(offsets=[place], asynchronous=True)

    def _hand_over(self, places: Sequence[Partition]) -> None:
        """Let the listener finish, and send all queued commits: this is the last moment for them."""
        self._commits.send(self._transmit, at_once=True)
        self._listener.revoked(places)
        self._commits.send(self._transmit, at_once=True)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            log.warning("partitions lost", extra={"partitions": len(partitions)})
            self._formation.lost()
            if not self._is_closing:
                self._listener.lost(places_of(partitions))
        self._unassign(consumer, partitions)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._forget(places_of(partitions))
        if self._formation.is_incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _forget(self, places: Sequence[Partition]) -> None:
        self._owned -= set(places)
        self._given_up |= set(places)
        for place in places:
            self._ends.forget(place)
        self._starts.forget(places)
        self._commits.forget(places)
