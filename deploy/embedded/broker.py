"""Runs the broker of the embedded pipeline: Tansu, a Kafka-compatible broker in one binary, in memory.

What its clients need to know (each is stated by a test in tests/integration/test_embedded_broker.py):

- A group takes half of ``session.timeout.ms`` to form, also after every change of members: 22.5 s at librdkafka's
  default of 45 s, 1 s with ``CONSUMER_SETTINGS``. Members notice a change at their next heartbeat.
- It keeps the offset of a commit, but not its metadata.
- A waiting Fetch looks for records once more, after half of ``fetch.wait.max.ms``; a record may be late by that much.
- ListOffsets returns too small an end: one past the *first* record of the last batch. The high watermark in Fetch is
  right.
- A position past the end gets no records and no error, whatever ``auto.offset.reset`` says.
- Producing to a missing topic creates it.
- It does not support the groups of KIP-848.
- It keeps nothing when it stops.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

from deploy.embedded.broker_program import UnknownProgramError, find_program
from deploy.embedded.local_broker import HOST, CannotStartError, LocalBroker, admin_of

CONSUMER_SETTINGS: Final[Mapping[str, str | int]] = {
    "session.timeout.ms": 2000,  # the group forms in half of this
    "heartbeat.interval.ms": 500,  # how soon a member notices a change
    "fetch.wait.max.ms": 50,  # a record is late by up to half of this
}
_TOPIC_TIMEOUT_S: Final = 10.0


class EmbeddedBroker(LocalBroker):
    """The broker in memory: its records are lost when it stops."""

    name = "embedded broker"
    start_s = 10.0  # measured: 0.1 s; more on a busy machine
    # Not SIGTERM, which waits 5 s for connections to close. There is nothing to save, and SIGINT works at once.
    end = (signal.SIGINT, 5.0)

    def __init__(self, port: int, log_path: Path | None = None, program: Path | None = None) -> None:
        """Set the port, the log file, and another program than the known one; starts nothing."""
        super().__init__(port, log_path)
        self._program = program

    def _command(self) -> list[str]:
        try:
            program = self._program or find_program()
        except UnknownProgramError as error:
            raise CannotStartError(str(error)) from None
        return [
            str(program),
            "broker",
            f"--listener-url=tcp://{HOST}:{self.port}",
            f"--advertised-listener-url=tcp://{HOST}:{self.port}",
            "--storage-engine=memory://headrace/",
            "--cluster-id=headrace-embedded",
        ]


def create_topics(bootstrap_servers: str, partitions_of: Mapping[str, int]) -> None:
    """Create missing topics with these numbers of partitions; existing topics are left unchanged.

    Raises:
        KafkaException: the broker refused one of them.
        TimeoutError: no answer within 10 s.
    """
    if not partitions_of:
        return
    topics = [NewTopic(name, num_partitions=count, replication_factor=1) for name, count in partitions_of.items()]
    admin = admin_of(bootstrap_servers)  # kept in a variable: its futures die with it
    for answer in admin.create_topics(topics, operation_timeout=_TOPIC_TIMEOUT_S).values():
        try:
            answer.result(_TOPIC_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
