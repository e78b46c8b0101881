"""What the alarms of docs/OPERATIONS.md tell people to do: their causes brought about, that done, and all is well.

That each rings is in test_alarms.py; dead letters are replayed in test_commands.py, and servers that are away come back
in tests/fault.
"""

import re
import time
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import KafkaError, Message

from tests.support.advice import follow
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import producer
from tests.support.log_members import until
from tests.support.operator import WAIT_S, Operator

OPERATIONS: Final = (Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md").read_text("utf-8")


@pytest.fixture
def at_work(operator: Operator) -> Operator:
    """An operator whose worker has inserted twenty events."""
    operator.make_tables()
    operator.send(20)
    operator.work()
    operator.await_rows(20)
    operator.await_status("ready")
    return operator


def advice(alarm: str) -> str:
    """Return what an alarm's row says."""
    (row,) = re.findall(rf"^\| <a id=[^>]+></a>{alarm} \| `[^`]+` \| (.*) \|$", OPERATIONS, re.MULTILINE)
    return str(row)


def test_rows_that_are_missing_are_read_again(at_work: Operator) -> None:
    """Rows and counts are lost, as with a disk: the metric says so, `audit` names them, the row says what then."""
    if not at_work.broker.supports_commit_metadata:
        pytest.skip("a reading's number stands in the commit's metadata")
    for table, condition in (("events", "_offset IN (7, 8)"), ("offsets", "topic = '" + at_work.topic + "'")):
        at_work.database.command(f"ALTER TABLE {table} DELETE WHERE {condition}", settings={"mutations_sync": 2})
    at_work.database.command(
        "INSERT INTO offsets (topic, topic_id, partition, million, rows, present, first, last, newest_at)"
        " SELECT _topic, _topic_id, _partition, 0, count(), groupBitmapState(_offset), min(_offset), max(_offset),"
        " max(_timestamp) FROM events GROUP BY ALL"
    )
    at_work.stop()
    at_work.work()
    at_work.await_page("/metrics", lambda _, body: "headrace_consumer_audit_missing 2.0" in body)
    code, lines = at_work.lines("audit", "--patience-s", "0")
    (named,) = [line["missing_offsets"] for line in lines if line["missing"]]
    assert (code, named) == (1, "7-8")

    at_work.stop()
    command = advice("rows are missing").replace("offset 100", "offset 7").replace("offset 200", "offset 9")
    command = command.replace("events/3", f"{at_work.topic}/0")
    follow(command, at_work.environ, at_work.database, only="reprocess")
    at_work.work()

    at_work.await_rows(20)
    until(lambda: at_work.lines("audit", "--patience-s", "0")[0] == 0, timeout_s=WAIT_S)


def test_a_view_that_fails_is_repaired(at_work: Operator) -> None:
    """The rows are there, the view lacks them, the partition is held: who repairs the view has them there once."""
    where = (
        "CREATE TABLE seen (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"
    )
    at_work.database.command(where)
    at_work.database.command(
        "CREATE MATERIALIZED VIEW failing TO seen AS SELECT throwIf(_offset >= 20, 'no') AS n FROM events"
    )
    at_work.send(5, first=20)
    sign = 'headrace_consumer_retries_total{cause="view",step="insert"}'
    at_work.await_page("/metrics", lambda _, body: sign in body and f"{sign} 0.0" not in body)
    at_work.await_status("retrying")
    assert "`ALTER TABLE … MODIFY QUERY`" in advice("a view fails")

    at_work.database.command("ALTER TABLE failing MODIFY QUERY SELECT _offset AS n FROM events")

    at_work.await_status("ready")
    assert at_work.database.query("SELECT count() AS n FROM seen") == [{"n": 5}]
    at_work.await_rows(25)
    at_work.stop()


def test_a_partition_that_is_halted_goes_on(at_work: Operator) -> None:
    """The page names the cause and the command; the worker is not restarted. Its age is true, whatever clocks say."""
    at_work.database.command("ALTER TABLE events DROP COLUMN browser")
    refused: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        refused.extend([error] if error else [])

    sender = producer(at_work.broker.bootstrap_servers)
    for number, at_ms in enumerate((1000, int(time.time() * 1000) + 1_800_000), start=20):
        sender.produce(at_work.topic, encoded(number), partition=0, timestamp=at_ms, on_delivery=report)
    assert (sender.flush(60), refused) == (0, [])
    said = at_work.await_status("halted")
    assert 'headrace_consumer_partitions{state="halted"} 1.0' in at_work.page("/metrics")[1]
    age = re.compile(
        rf'^headrace_consumer_freshness_seconds{{partition="0",topic="{at_work.topic}"}} (.+)$', re.MULTILINE
    )
    page = at_work.await_page("/metrics", lambda _, body: float((age.findall(body) or [0])[0]) > 0)
    assert float(age.findall(page)[0]) < 1800  # neither 57 years, nor nothing: half an hour is the other clock's lead

    at_work.follow(said)

    at_work.await_status("ready")
    at_work.await_rows(22)
    at_work.stop()


def test_a_group_that_has_lost_its_offsets_goes_on(at_work: Operator) -> None:
    """The page names two ways, and an operator decides which is right: each command is complete."""
    if at_work.broker.name == "embedded":
        pytest.skip("the embedded broker deletes no groups")
    at_work.stop()
    group = at_work.environ["CONSUMER_GROUP_ID"]
    admin = at_work.broker.admin()
    admin.delete_consumer_groups([group])[group].result(60)
    at_work.send(3, first=20)
    at_work.work()
    said = at_work.await_status("halted")
    assert f"`python -m consumer reprocess --partition {at_work.topic}/0 --from-offset 0 --go`" in said
    at_work.stop()

    at_work.follow(said, only="resume")
    at_work.work()

    unique = "SELECT uniqExact(event_id) AS n FROM events"
    until(lambda: at_work.database.query(unique) == [{"n": 23}], timeout_s=WAIT_S)
    at_work.await_status("ready")
    assert at_work.run("audit")[0] == 0
    at_work.stop()
