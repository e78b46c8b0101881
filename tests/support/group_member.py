"""One worker process of a group, over Kafka and a shared table: `python -m tests.support.group_member SPEC`.

SPEC is JSON: name, topic, table (its port), properties (of the member). Each call of the listener is a line of JSON on
standard output: when (monotonic), what, which partitions. SIGTERM ends it as it ends the service.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from consumer.delivery.backoff import Backoff
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.executor import Pools, WorkerConfig
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Assigned, Listener, Partition, Position
from consumer.delivery.worker import Worker
from consumer.kafka.consumer import KafkaLog
from tests.support.consumer_fakes import Tally
from tests.support.fake_table import FakeLetters, FakeRows
from tests.support.shared_table import RemoteTable

_LIMITS: Final = BufferLimits(rows_max=40, bytes_max=1_000_000, age_s_max=0.05, waiting_bytes_max=10_000_000)
_DRAIN_S: Final = 10.0


class Teller:
    """Prints what the worker hears, before it hears it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Partition, Position | None]:
        """Print it and pass it on."""
        self._tell("assigned", [item.partition for item in partitions])
        return self._listener.assigned(partitions)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Print it and pass it on."""
        self._tell("revoked", partitions)
        self._listener.revoked(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Print it and pass it on."""
        self._tell("lost", partitions)
        self._listener.lost(partitions)

    @staticmethod
    def _tell(name: str, partitions: Sequence[Partition]) -> None:
        print(json.dumps([time.monotonic(), name, sorted(place.number for place in partitions)]), flush=True)


def main(name: str, topic: str, table: int, properties: Mapping[str, str | int]) -> None:
    """Work until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    log = KafkaLog(properties, [topic])
    with ThreadPoolExecutor(4) as pool:
        remote = RemoteTable(table, name)
        pipeline = Pipeline(FakeRows({1}), remote, FakeLetters(), log, remote, remote)
        terms = WorkerConfig(_LIMITS, log.cluster_id(), 5.0, Backoff())
        worker = Worker(log, {topic: pipeline}, Pools(pool, pool), terms, Tally())
        log.listen(Teller(worker))
        while not stop.is_set():
            worker.turn()
        done = worker.drain(time.monotonic() + _DRAIN_S)
        log.close()
    sys.exit(0 if done else 3)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
