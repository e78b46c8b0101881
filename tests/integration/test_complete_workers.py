"""complete_until of real workers: it follows them, and says nothing false when they stop, halt, or lack a partition."""

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # as its examples import it

from tests.support.log_members import until
from tests.support.operator import Operator

_BEATS = {"HEARTBEAT_EVERY_S": "0.2", "ARRIVAL_S_MAX": "0", "AUDIT_EVERY_S": "0.5"}
_VIEW = """
SELECT toUnixTimestamp64Milli(complete_until) AS at_ms, halted, partitions
FROM complete_until WHERE topic = {topic:String}
"""


def complete_ms(operator: Operator) -> int:
    """Return until when the events are complete; 0 while that is not known."""
    rows = operator.database.query(_VIEW, {"topic": operator.topic})
    return int(rows[0]["at_ms"] or 0) if rows else 0


def send(operator: Operator, count: int, first: int, partition: int = 0) -> int:
    """Send events; return a moment at which they are in the log."""
    operator.send(count, partition, first)
    return int(time.time() * 1000) + 1


def await_complete(operator: Operator, at_ms: int, count: int) -> None:
    """Wait until the events are complete until a moment; all of them must be there then."""
    until(lambda: complete_ms(operator) >= at_ms, timeout_s=60)
    assert operator.rows() == count


def arrives(operator: Operator) -> bool:
    """Tell whether a broker takes an event for a partition that was added."""
    try:
        operator.send(1, 2, 30)
    except KafkaException:
        return False
    return True


def test_it_follows_workers_and_never_passes_what_is_not_in_the_table(operator: Operator) -> None:
    """A worker that stops, one that halts, and partitions that are added."""
    assert operator.run("migrate")[0] == 0
    assert complete_ms(operator) == 0
    operator.work(**_BEATS)
    await_complete(operator, send(operator, 10, 0), 10)

    operator.stop()
    stopped_ms = complete_ms(operator)
    sent_ms = send(operator, 10, 10)
    assert complete_ms(operator) == stopped_ms < sent_ms
    operator.work(**_BEATS)
    await_complete(operator, sent_ms, 20)

    operator.database.command("ALTER TABLE events DROP COLUMN os_name")
    sent_ms = send(operator, 10, 20)

    def halted() -> list[str]:
        return list(operator.database.query(_VIEW, {"topic": operator.topic})[0]["halted"])

    until(lambda: halted() == ["table"], timeout_s=60)
    time.sleep(1)  # some beats
    assert complete_ms(operator) < sent_ms
    assert operator.run("migrate")[0] == 0
    await_complete(operator, sent_ms, 30)
    assert halted() == []

    admin = AdminClient({"bootstrap.servers": operator.broker.bootstrap_servers})
    for future in admin.create_partitions([NewPartitions(operator.topic, 3)]).values():
        future.result(60)

    until(lambda: arrives(operator), timeout_s=60)
    sent_ms = int(time.time() * 1000) + 1
    until(lambda: operator.database.query(_VIEW, {"topic": operator.topic})[0]["partitions"] == 3, timeout_s=60)
    time.sleep(1)  # some beats, of a worker that does not read the new partition yet
    said_ms, rows = complete_ms(operator), operator.rows()
    assert said_ms < sent_ms or rows == 31
    operator.stop()
    operator.work(**_BEATS)
    await_complete(operator, sent_ms, 31)
    assert operator.database.query("SELECT sum(missing) AS n, count() > 0 AS any FROM audit_daily") == [
        {"n": 0, "any": 1}
    ]
