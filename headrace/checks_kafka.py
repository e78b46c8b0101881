"""The checks of `headrace doctor` that ask Kafka: copies, settings, commits, the group, clocks."""

from collections.abc import Callable, Iterator
from typing import Final

from consumer.errors import ConsumerError, Fatal
from consumer.kafka.admin import Cluster
from consumer.kafka.inspection import Copies, Inspection
from consumer.operations.lag import lag_lines
from consumer.operations.preflight import check_metadata, find_topics, guarantee, size_warnings
from consumer.settings import Settings
from headrace.checks import Check, Level, Promise, clock, transport

EMBEDDED: Final = "headrace-embedded"
"""The id of the cluster that the embedded broker says it is."""
_COPIES: Final = 3
_ISR: Final = 2
_DAY_MS: Final = 86_400_000
_BATCH_BYTES: Final = 48_588  # Kafka's default is the sum of both
_RECORD_BYTES: Final = 1_000_000  # librdkafka's message.max.bytes: a larger record is refused with 413


class KafkaChecks:
    """Asks one cluster about both topics."""

    def __init__(self, settings: Settings, properties: dict[str, str | int]) -> None:
        self._settings, self._properties = settings, properties
        self._cluster = Cluster(properties, settings.group_id)
        self._inspection = Inspection(properties, settings.group_id)
        self._names = (settings.topic, settings.dead_letter_topic)
        self._is_embedded = False

    def run(self) -> Iterator[Check]:
        """Yield what the cluster says; what can't be asked is unknown."""
        yield self._transport()
        try:
            cluster_id = self._cluster.cluster_id()
            topics = find_topics(self._cluster, self._names)
        except Fatal as error:
            yield Check(Promise.DURABLE, Level.BROKEN, f"Kafka: {error}", "see the sentence")
            return
        except ConsumerError as error:
            yield Check(
                Promise.DURABLE, Level.UNKNOWN, f"Kafka: {error}", "start the brokers, or repair the way to them"
            )
            return
        yield Check(Promise.VERSIONS, Level.NOTE, f"librdkafka {self._inspection.library}, cluster {cluster_id}")
        self._is_embedded = cluster_id == EMBEDDED
        if self._is_embedded:
            says = "the broker is the embedded one, which keeps its log in memory: events without a row go with it"
            yield Check(
                Promise.DURABLE,
                Level.BROKEN,
                says,
                "use Apache Kafka: `make run KAFKA=apache`, docker compose, or your own",
            )
        for name in topics:
            yield from _asked(Promise.DURABLE, lambda name=name: self._topic(name))  # type: ignore[misc]  # bound now
        yield from _asked(Promise.DURABLE, self._sizes)
        yield from _asked(Promise.ONCE, self._commits)
        yield from _asked(Promise.ONCE, self._group)
        yield from _asked(Promise.CLOCKS, self._clocks)

    def _transport(self) -> Check:
        protocol = str(self._properties.get("security.protocol", "plaintext")).lower()
        host = self._settings.bootstrap_servers.split(",")[0].rpartition(":")[0].strip("[]")
        return transport(
            "Kafka", host, has_tls="ssl" in protocol, setting="security.protocol in CONSUMER_KAFKA_CONFIG_FILE"
        )

    def _topic(self, name: str) -> Iterator[Check]:
        copies = self._inspection.copies(name)
        if copies is not None:
            least = self._cluster.topic_setting(name, "min.insync.replicas")
            yield from replication(name, copies, None if least is None else int(least), self._cluster.servers)
        unclean = self._cluster.topic_setting(name, "unclean.leader.election.enable")
        if unclean == "true":
            cure = self._alter(name, "unclean.leader.election.enable=false")
            yield Check(Promise.DURABLE, Level.BROKEN, f"{name}: an unclean election may cut its log", cure)
        if "compact" in (self._cluster.topic_setting(name, "cleanup.policy") or ""):
            cure = self._alter(name, "cleanup.policy=delete")
            yield Check(Promise.DURABLE, Level.BROKEN, f"{name} is compacted: events of one key are deleted", cure)
        kept = self._cluster.topic_setting(name, "retention.ms")
        if kept is not None and 0 <= int(kept) < _DAY_MS:
            says = f"{name} keeps records for {int(kept) / 3_600_000:g} h: workers that are away for longer lose them"
            yield Check(Promise.OUTAGE, Level.WEAK, says, self._alter(name, f"retention.ms={7 * _DAY_MS}"))
        elif kept is not None:
            shown = "for ever" if int(kept) < 0 else f"for {int(kept) / _DAY_MS:g} days"
            yield Check(Promise.OUTAGE, Level.HOLDS, f"{name} keeps records {shown}: so long may workers be away")

    def _sizes(self) -> Iterator[Check]:
        warnings = size_warnings(self._cluster, *self._names, self._settings.batch_bytes_max)
        for sentence in warnings:
            yield Check(Promise.ONCE, Level.WEAK, sentence, "see the sentence")
        taken = self._cluster.topic_setting(self._settings.topic, "max.message.bytes")
        if taken is None:
            yield Check(Promise.DURABLE, Level.UNKNOWN, "the broker does not say the topics' max.message.bytes")
        elif int(taken) < _RECORD_BYTES:
            says = f"{self._settings.topic} takes {taken} bytes, the ingress sends up to {_RECORD_BYTES}"
            cure = self._alter(self._settings.topic, f"max.message.bytes={_RECORD_BYTES + _BATCH_BYTES}")
            yield Check(Promise.DURABLE, Level.WEAK, f"{says}: larger events are parked in the spool", cure)
        elif not warnings:
            yield Check(
                Promise.DURABLE,
                Level.HOLDS,
                f"every event that is accepted fits {self._settings.topic} ({taken} bytes)",
            )

    def _commits(self) -> Iterator[Check]:
        keeps = check_metadata(self._cluster, self._settings.topic)
        if keeps is None:
            says = "this account may not commit for a trial group: whether the broker keeps intents is unknown"
            yield Check(
                Promise.ONCE, Level.UNKNOWN, says, f"give it Read on groups that begin with {self._settings.group_id}."
            )
        else:
            cure = "" if keeps else "use Apache Kafka, or another broker that keeps a commit's metadata"
            yield Check(Promise.ONCE, Level.HOLDS if keeps else Level.BROKEN, guarantee(keeps_metadata=keeps), cure)

    def _group(self) -> Iterator[Check]:
        members = self._inspection.members()
        if not members and self._is_embedded:
            yield Check(
                Promise.OUTAGE, Level.UNKNOWN, "this broker does not tell a group's members: look at `headrace top`"
            )
        elif members:
            yield Check(Promise.ONCE, Level.HOLDS, f"{members} workers are in the group {self._settings.group_id}")
        else:
            yield Check(
                Promise.OUTAGE, Level.WEAK, "no worker runs: events wait in Kafka", "run `headrace consumer run`"
            )
        for line in lag_lines(self._cluster, find_topics(self._cluster, self._names)):
            if "halted" in str(line["note"]):
                says = f"{line['topic']}/{line['partition']} is {line['note']}"
                yield Check(Promise.ONCE, Level.BROKEN, says, "see docs/OPERATIONS.md, A partition is halted")

    def _clocks(self) -> Iterator[Check]:
        clocks = self._inspection.clocks(self._settings.topic)
        if not clocks:
            yield Check(
                Promise.CLOCKS, Level.UNKNOWN, "this broker keeps no topic of commits, so its clock can't be read"
            )
        for broker, told in clocks.items():
            yield clock(f"broker {broker}", told.ahead_s, told.within_s, self._settings.arrival_s_max)

    def _alter(self, topic: str, setting: str) -> str:
        servers = self._cluster.servers
        return (
            f"run `kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic}"
            f" --add-config {setting}`"
        )


def replication(topic: str, copies: Copies, least: int | None, servers: str) -> Iterator[Check]:
    """Yield how many disks may be lost, by a topic's copies and its min.insync.replicas; None: not known."""
    configure = (
        f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic} --add-config"
    )
    cure, has = f"run `{configure} min.insync.replicas={_ISR}`", f"{topic} has {copies.replicas} copies"
    if copies.replicas == 1:
        says = f"{topic} has one copy: when that disk is lost, events that were answered 201 are lost"
        more = f"keep {_COPIES} copies (kafka-reassign-partitions.sh), with min.insync.replicas={_ISR}"
        yield Check(Promise.DURABLE, Level.WEAK, says, more)
    elif least is None:
        yield Check(Promise.DURABLE, Level.UNKNOWN, f"{has}; its min.insync.replicas can't be read")
    elif least < _ISR:
        yield Check(Promise.DURABLE, Level.WEAK, f"{has}, but an event may be in {least} of them only", cure)
    elif least >= copies.replicas:
        says = f"{has}, and all must have an event: while any one broker is away, events go to the spool"
        yield Check(Promise.OUTAGE, Level.WEAK, says, cure if copies.replicas > _ISR else f"keep {_COPIES} copies")
    else:
        yield Check(Promise.DURABLE, Level.HOLDS, f"{has}, {least} before an event is acknowledged")
    if copies.in_sync < copies.replicas:
        stops = least is not None and copies.in_sync < least
        says = f"{topic}: a partition has {copies.in_sync} of {copies.replicas} copies in sync now"
        level = Level.BROKEN if stops else Level.WEAK
        yield Check(
            Promise.OUTAGE, level, says + (": it takes no events" if stops else ""), "bring the missing broker back"
        )


def _asked(promise: Promise, question: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield a question's checks; one that finds no answer is unknown."""
    try:
        yield from question()
    except Fatal as error:
        yield Check(promise, Level.BROKEN, f"Kafka: {error}", "see the sentence")
    except ConsumerError as error:
        yield Check(promise, Level.UNKNOWN, f"Kafka: {error}")
