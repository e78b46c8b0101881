"""A person's data from the log to the tables, and out of them: with a worker, on a real broker and ClickHouse."""

import json
from pathlib import Path

import pytest

from consumer.clickhouse.client import Connection
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import deliver
from tests.support.operator import Operator, finish

pytestmark = pytest.mark.kafka
ALICE, BOB = "alice-4711", "bob-0815"


def test_what_is_read_again_after_an_erasure_is_erased_again(
    operator: Operator, empty_database: Connection, tmp_path: Path
) -> None:
    """The audit finds nothing missing at any moment: erased rows count as inserted, dead letters keep their rows."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    operator.environ["CONSUMER_ERASURE_KEY_FILE"] = str(key)
    operator.make_tables()
    values = [encoded(n, userId=ALICE if n % 2 else BOB) for n in range(10)]
    values += [encoded(10, userId=ALICE)[:-3], encoded(11, userId=ALICE, active=5000)]
    deliver(operator.broker.bootstrap_servers, operator.topic, values, 0)
    operator.work()
    operator.await_rows(10)
    letters = 'outcome="rows_inserted",partition="0",topic="' + operator.dead_topic + '"} 2.0'
    operator.await_page("/metrics", lambda _, body: letters in body)

    code, found = operator.lines("erase", "--user-id", ALICE)
    assert (code, [line["rows"] for line in found]) == (0, [5, 2])
    assert operator.rows() == 10
    code, exported, said = operator.run("export", "--user-id", ALICE)
    assert code == 0, said
    held = [json.loads(line) for line in exported.splitlines()]
    assert [line["table"] for line in held] == ["events"] * 5 + ["dead_letters"] * 2
    assert {line.get("user_id") or line["event"]["userId"] for line in held if "value_base64" not in line} == {ALICE}
    assert operator.run("erase", "--user-id", ALICE, "--go")[0] == 0
    assert operator.rows() == 5
    assert operator.lines("audit", "--patience-s", "0")[0] == 0
    operator.stop()

    span = ("--from-offset", "0", "--to-offset", "12", "--go")
    for topic, end in ((operator.topic, "12"), (operator.dead_topic, "2")):
        code, _, said = operator.run("reprocess", "--partition", f"{topic}/0", *span[:3], end, "--go")
        assert (code, "erase --again" in said) == (0, True)
    worker = operator.work()
    operator.await_page("/metrics", lambda _, body: f'topic="{operator.topic}"}} 10.0' in body)
    operator.await_page(
        "/metrics", lambda _, body: operator.dead_topic in body and letters.replace("2.0", "4.0") in body
    )
    finish(worker)
    operator.workers.clear()
    assert empty_database.query(f"SELECT uniqExact(event_id) AS n FROM events WHERE user_id = '{ALICE}'") == [{"n": 5}]

    _, plan = operator.lines("replay")
    assert "its person was erased" in {line["verdict"] for line in plan}
    code, _, said = operator.run("erase", "--again", "--go")
    assert code == 0, said
    assert "5 rows and the content of " in said
    assert empty_database.query("SELECT DISTINCT user_id FROM events") == [{"user_id": BOB}]
    assert empty_database.query("SELECT count() AS n FROM dead_letters WHERE value != ''") == [{"n": 0}]
    assert operator.lines("audit", "--patience-s", "0")[0] == 0
