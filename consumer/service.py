"""The composition root: builds a running worker from settings. Leaving the block drains and closes everything."""

import faulthandler
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from consumer.clickhouse import containers
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.notes import server_ms, write_audits, write_heartbeats
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.replication import Replicas
from consumer.clickhouse.rows import DeadLetterRows, EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.backoff import Backoff
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.executor import Pools, WorkerConfig
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Metrics, Rows, Topics
from consumer.delivery.worker import Worker
from consumer.errors import Transient
from consumer.health import HealthMonitor
from consumer.kafka import messages
from consumer.kafka.admin import Cluster
from consumer.kafka.admin_connection import LIBRARY_VERSION, AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.dead_letters import KafkaDeadLetters
from consumer.metrics import PrometheusMetrics, balances
from consumer.operations.audit import Auditor
from consumer.operations.background import in_background
from consumer.operations.background_audit import BackgroundAudit, auditing_in_background
from consumer.operations.completeness import Completeness
from consumer.operations.heart import CarefulClock, Heart
from consumer.operations.partition_growth import PartitionGrowth
from consumer.operations.preflight import (
    check_metadata,
    check_servers,
    check_tables,
    check_windows,
    find_topics,
    guarantee,
    size_warnings,
)
from consumer.pages import Pages, serving
from consumer.parts import connect, early_s, find_schemas, kafka_properties, member_properties, pace, targets
from consumer.settings import Settings
from consumer.tracing import open_spans

log = logging.getLogger(__name__)

_BEAT_S: Final = 10.0
_GROWTH_S: Final = 60.0

_Answer = TypeVar("_Answer")


class _Checked(NamedTuple):
    """What preflight found: whether the broker surely keeps intents, the partitions of each topic, how many shards."""

    keeps_metadata: bool
    partitions: dict[str, int]
    shards: int


def _preflight(settings: Settings, connection: Connection, cluster: Cluster, stop: threading.Event) -> _Checked:
    """Wait for the servers, and check what exactly-once depends on.

    Raises:
        Fatal: one sentence that says what to do.
    """
    names = (settings.topic, settings.dead_letter_topic)
    topics = patiently(lambda: find_topics(cluster, names), stop)
    partitions = {name: topic.partitions for name, topic in topics.items()}
    needed = pace(settings, sum(partitions.values()))
    patiently(lambda: check_tables(connection, [(target, needed) for target in targets(settings)]), stop)
    shards = patiently(lambda: check_servers(connection), stop)
    keeps = patiently(lambda: check_metadata(cluster, settings.topic), stop)
    for sentence in size_warnings(cluster, *names, settings.batch_bytes_max):
        log.warning("topic limits", extra={"reason": sentence})
    level = logging.WARNING if keeps is False else logging.INFO
    log.log(level, "preflight passed", extra={"guarantee": guarantee(keeps_metadata=keeps is not False)})
    return _Checked(keeps is True, partitions, shards)


@contextmanager
def build(
    settings: Settings, admin: AdminConnection, metrics: Metrics, stop: threading.Event
) -> Iterator[tuple[Worker, KafkaLog]]:
    """Compose a worker and its log, and join the group; leaving the block drains, commits and leaves the group."""
    with ExitStack() as stack:
        connection = connect(settings)
        stack.callback(connection.close)
        checked = _preflight(settings, connection, _cluster(settings, admin), stop)
        for topic, count in checked.partitions.items():
            metrics.set("topic_partitions", count, topic=topic)
        source = KafkaLog(member_properties(settings), (settings.topic, settings.dead_letter_topic), admin)
        letters = KafkaDeadLetters(kafka_properties(settings), settings.dead_letter_topic)
        stack.callback(letters.close)
        pools = Pools.of_threads(settings.insert_threads, (settings.topic, settings.dead_letter_topic))
        stack.callback(pools.shutdown)
        stack.callback(source.close)
        config = _config(settings, patiently(source.cluster_id, stop), sum(checked.partitions.values()))
        config = replace(config, keeps_metadata=checked.keeps_metadata, shards=checked.shards)
        worker = Worker(source, _pipelines(settings, connection, letters, metrics, source), pools, config, metrics)
        source.listen(worker)
        yield worker, source
        if not worker.drain(monotonic() + settings.drain_s_max):
            log.warning("stopped before everything was inserted: the next owners of the partitions continue")


def _pipelines(
    settings: Settings, connection: Connection, letters: KafkaDeadLetters, metrics: Metrics, topics: Topics
) -> dict[str, Pipeline]:
    schemas, spans, late_s = find_schemas(settings), open_spans(), pace(settings).late_s

    def pipeline(rows: Rows, target: Target, schema_of: Callable[[int], str] | None) -> Pipeline:
        table = ClickHouseTable(connection, target, rows, schema_of, metrics)
        replicas = Replicas(connection, target.table, "offsets", "erased_rows", remembered_s=late_s)
        repairer = ClickHouseRepairer(connection, target, rows, metrics, replicas)
        inserted = OffsetsTable(connection, {target.topic: target.table}, late_s, replicas)
        return Pipeline(rows, table, letters, topics, repairer, inserted, spans)

    events, dead = targets(settings)
    return {
        settings.topic: pipeline(EventRows(schemas, settings.unknown_schema_s), events, schemas.schema_of),
        settings.dead_letter_topic: pipeline(DeadLetterRows(), dead, None),
    }


def _config(settings: Settings, cluster_id: str, partitions: int) -> WorkerConfig:
    limits = BufferLimits(
        settings.batch_rows_max,
        settings.batch_bytes_max,
        settings.batch_age_s_max,
        settings.waiting_bytes_max,
        early_s(settings, partitions),
    )
    # An insert may be late by its own timeout, and by the server's queue.
    return WorkerConfig(limits, cluster_id, settings.revoke_s_max, Backoff(), late_s=2 * settings.insert_timeout_s)


def patiently(call: Callable[[], _Answer], stop: threading.Event) -> _Answer:
    """Call until it succeeds, because a server may be away at the start; give up when the process is told to stop."""
    backoff, attempt = Backoff(), 0
    while True:
        try:
            return call()
        except Transient as error:
            attempt += 1
            log.warning("waiting for a server", extra={"attempt": attempt, "reason": str(error)[:300]})
            if stop.wait(backoff.delay_s(attempt)):
                raise SystemExit(0) from error


def _cluster(settings: Settings, admin: AdminConnection) -> Cluster:
    return Cluster(kafka_properties(settings), settings.group_id, admin)


def _patrol(settings: Settings, admin: AdminConnection, monitor: HealthMonitor, metrics: Metrics) -> BackgroundAudit:
    cluster = _cluster(settings, admin)
    tables = {target.topic: target.table for target in targets(settings)}
    connection = connect(settings)
    keep = partial(write_audits, connection)
    return BackgroundAudit(Auditor(connection, tables, cluster.gaps), cluster, monitor, metrics, keep)


def _heart(settings: Settings, admin: AdminConnection, monitor: HealthMonitor, metrics: Metrics) -> Heart:
    connection = connect(settings).patient(_BEAT_S)
    write, clock = partial(write_heartbeats, connection), CarefulClock(partial(server_ms, connection))
    completeness = Completeness(settings.arrival_s_max)
    return Heart(_cluster(settings, admin), monitor, completeness, write, clock.now_ms, metrics)


def _growth(settings: Settings, admin: AdminConnection) -> PartitionGrowth:
    cluster, connection = _cluster(settings, admin), connect(settings)
    names = (settings.topic, settings.dead_letter_topic)

    def check(partitions: int) -> None:
        check_windows(connection, [(target, pace(settings, partitions)) for target in targets(settings)])

    return PartitionGrowth(lambda: sum(topic.partitions for topic in find_topics(cluster, names).values()), check)


def _tell_compiled(metrics: Metrics, *, is_compiled: bool) -> None:
    """Tell how this process reads and writes records: by a metric, and in the log."""
    metrics.set("is_compiled", is_compiled)
    level = logging.INFO if is_compiled else logging.WARNING
    log.log(level, "records are read and written with %s", "compiled code" if is_compiled else "Python alone")


def _spare_collector() -> None:
    """Have the garbage collector look less often, and not at what lives as long as the process.

    A record is a tuple that the collector tracks, and none is part of a cycle. At Python's defaults the collector takes
    an eighth of a worker's time under a backlog.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then insert and commit what was read.

    Raises:
        Fatal: the worker can't continue.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    faulthandler.register(signal.SIGUSR1, sys.__stderr__ or 2)  # what each thread does, for a worker that stands still
    metrics = PrometheusMetrics(librdkafka=LIBRARY_VERSION)
    _tell_compiled(metrics, is_compiled=containers.IS_COMPILED and messages.IS_COMPILED)
    metrics.set("audit_interval_seconds", settings.audit_every_s)
    monitor = HealthMonitor(settings.stall_s, monotonic, settings.bootstrap_servers)
    admin = AdminConnection(kafka_properties(settings))
    try:
        with (
            serving(settings.http_host, settings.http_port, Pages(metrics, monitor)),
            build(settings, admin, metrics, stop) as (worker, source),
            auditing_in_background(_patrol(settings, admin, monitor, metrics), settings.audit_every_s),
            in_background("partitions", _growth(settings, admin).look, _GROWTH_S),
            in_background("heartbeat", _heart(settings, admin, monitor, metrics).beat, settings.heartbeat_every_s),
        ):
            _spare_collector()
            log.info("worker started", extra={"topic": settings.topic, "group": settings.group_id})
            while not stop.is_set():
                worker.turn()
                monitor.turned(worker.owned, source.end_of, source.membership())
    finally:
        books = metrics.books()
        log.info("worker stopped", extra={"balances": all(map(balances, books.values())), "records": books})
