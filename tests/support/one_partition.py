"""One partition, its workers, and every event that a leader of it has ever acknowledged."""

import json
import uuid
from collections.abc import Iterable
from typing import Final, NamedTuple

from tests.support.command import Command, environ_of
from tests.support.fixtures_consumer import AT_MS, encoded
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.kafka_clients import deliver
from tests.support.ledger import topic_census

_COMMAND_S: Final = 110.0
_ROWS: Final = """
SELECT event_id AS id, _offset AS offset, _leader_epoch AS epoch, _reading AS reading FROM events
WHERE _topic = {topic:String}
"""


class Row(NamedTuple):
    """Where a row comes from."""

    offset: int
    epoch: int
    reading: int


class OnePartition:
    """Events are numbered as they are sent; a number is an event's id.

    Attributes:
        sent: how many there are.
    """

    def __init__(self, cluster: KafkaCluster, fleet: Fleet) -> None:
        self.cluster, self.fleet = cluster, fleet
        self.sent = 0

    def send(self, count: int) -> range:
        """Produce events to the leader; return their numbers."""
        numbers = range(self.sent, self.sent + count)
        deliver(self.cluster.bootstrap_servers, self.fleet.topic, [encoded(n, receivedAt=AT_MS) for n in numbers])
        self.sent += count
        return numbers

    def rows(self) -> dict[int, list[Row]]:
        """Return the rows of each event."""
        found: dict[int, list[Row]] = {}
        for row in self.fleet.connection.query(_ROWS, {"topic": self.fleet.topic}):
            number = uuid.UUID(str(row["id"])).int
            found.setdefault(number, []).append(Row(row["offset"], row["epoch"], row["reading"]))
        return found

    def await_rows(self, numbers: Iterable[int], timeout_s: float = 60.0) -> None:
        """Wait until these events are rows."""
        wanted = set(numbers)
        until(lambda: wanted <= self.rows().keys(), f"{len(wanted)} rows", timeout_s)

    def in_log(self) -> set[int]:
        """Return the events that the log has now."""
        count = topic_census(self.cluster.bootstrap_servers, self.fleet.topic)
        return {uuid.UUID(event_id).int for event_id in count()}

    def command(self, name: str, *arguments: str) -> tuple[int, str, list[dict[str, object]]]:
        """Run a command of the consumer; return its exit code, what it says on standard error, and its lines."""
        command = Command([name, *arguments, "--json"], environ_of("CONSUMER_", **self.fleet.settings))
        try:
            output, said = command.communicate(_COMMAND_S)
        finally:
            command.kill()
        assert command.returncode is not None
        return command.returncode, said, [json.loads(line) for line in output.splitlines()]

    def await_halt(self, member: Member) -> str:
        """Wait until a worker says that the partition is halted, in its log and on its page; return the sentence."""
        until(lambda: bool(halts(member)), "a halt in the log")
        until(lambda: member.page("/readyz")[0] == 503, "a halt on the page")
        assert f"{self.fleet.topic}/0 is halted at offset" in member.page("/readyz")[1]
        return halts(member)[-1]


def halts(member: Member) -> list[str]:
    """Return what a worker has said of halted partitions."""
    return [str(line["message"]) for line in halt_lines(member)]


def halt_lines(member: Member) -> list[dict[str, object]]:
    """Return the lines in which a worker has said so."""
    lines = [json.loads(line) for line in member.said().splitlines() if line.startswith("{")]
    return [line for line in lines if str(line.get("message")).startswith("partition halted")]
