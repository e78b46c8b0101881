"""`python -m consumer` as an operator meets it: commands in separate processes, on a real broker and ClickHouse."""

import json
import time

import pytest
from confluent_kafka import TopicPartition

from consumer.__main__ import main
from consumer.clickhouse.client import Connection
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import consumer, deliver, producer
from tests.support.operator import WAIT_S, Operator, finish
from tests.support.ports import free_port

TRUNCATED, NOT_FRAMED = encoded(1)[:-3], b"nonsense"


def _insert(operator: Operator, count: int, transactional_id: str = "") -> None:
    """Make the tables, and let a worker insert events of partition 0, each of its own transaction if that is named."""
    operator.make_tables()
    servers, events = operator.broker.bootstrap_servers, [encoded(n) for n in range(count)]
    if transactional_id:
        sender = producer(servers, transactional_id=transactional_id)
        sender.init_transactions(60)
        for event in events:
            sender.begin_transaction()
            sender.produce(operator.topic, event, partition=0)
            sender.commit_transaction(60)
    else:
        deliver(servers, operator.topic, events, 0)
    worker = operator.start("run")
    inserted = f'outcome="rows_inserted",partition="0",topic="{operator.topic}"}} {count}.0'
    operator.await_page("/metrics", lambda _, body: inserted in body)
    finish(worker)


def audited_at(page: str) -> float:
    """Return when the last audit ended, by a page of metrics."""
    (line,) = (line for line in page.splitlines() if line.startswith("headrace_consumer_audit_timestamp_seconds "))
    return float(line.rpartition(" ")[2])


def test_a_worker_from_migrate_to_its_last_line(operator: Operator, empty_database: Connection) -> None:
    """Good records become rows, bad ones dead letters in their table; every page, audit and the counters agree."""
    assert operator.run("migrate")[:2][0] == 0
    deliver(operator.broker.bootstrap_servers, operator.topic, [encoded(n) for n in range(300)], 0)
    bad = [encoded(300), TRUNCATED, encoded(301), NOT_FRAMED, encoded(302, active=5000), encoded(303)]
    deliver(operator.broker.bootstrap_servers, operator.topic, bad, 1)
    worker = operator.start("run")
    operator.await_page("/readyz", lambda status, _: status == 200)
    all_dead = (
        f'records_total{{outcome="dead_letters",partition="1",topic="{operator.topic}"}} 3.0',
        f'records_total{{outcome="rows_inserted",partition="0",topic="{operator.dead_topic}"}} 3.0',
    )
    page = operator.await_page("/metrics", lambda _, body: all(line in body for line in all_dead))
    page_at = audited_at(page)
    operator.await_page("/metrics", lambda _, body: audited_at(body) > page_at)
    operator.await_page("/healthz", lambda status, body: (status, json.loads(body)["status"]) == (200, "idle"))
    audit_code, audit = operator.lines("audit")
    _, lag = operator.lines("lag")
    code, lines = finish(worker)

    for reason in ("bad_avro", "frame", "bad_value"):
        assert f'dead_letters_total{{reason="{reason}"}} 1.0' in page
    assert audit_code == 0
    assert [
        (line["rows"], line["dead_letters"], line["missing"]) for line in audit if line["topic"] == operator.topic
    ] == [
        (300, 0, 0),
        (3, 3, 0),
    ]
    assert {line["lag"] for line in lag} == {0}
    assert code == 0
    assert lines[-1]["message"] == "worker stopped"
    assert lines[-1]["balances"] is True
    assert lines[-1]["records"] == {
        f"{operator.topic}/0": {"read": 300, "rows_inserted": 300, "dead_letters": 0, "returned": 0},
        f"{operator.topic}/1": {"read": 6, "rows_inserted": 3, "dead_letters": 3, "returned": 0},
        f"{operator.dead_topic}/0": {"read": 3, "rows_inserted": 3, "dead_letters": 0, "returned": 0},
    }
    letters = empty_database.query(
        "SELECT reason, hex(value) AS value, origin_offset FROM dead_letters ORDER BY origin_offset"
    )
    assert [(row["reason"], row["origin_offset"]) for row in letters] == [
        ("bad_avro", 1),
        ("frame", 3),
        ("bad_value", 4),
    ]
    assert [bytes.fromhex(row["value"]) for row in letters[:2]] == [TRUNCATED, NOT_FRAMED]


def test_audit_names_what_is_missing_and_what_is_double(operator: Operator, empty_database: Connection) -> None:
    """Rows that are lost with their counts, and rows put in twice: exit code 1, and the offsets."""
    operator.make_tables()
    deliver(operator.broker.bootstrap_servers, operator.topic, [encoded(n) for n in range(20)], 0)
    worker = operator.start("run")
    operator.await_page("/metrics", lambda _, body: 'outcome="rows_inserted",partition="0"' in body)
    finish(worker)
    empty_database.command("INSERT INTO events SELECT * FROM events WHERE _offset IN (4, 5)")
    code, double = operator.lines("audit", "--patience-s", "0")
    lost = "ALTER TABLE events DELETE WHERE _offset IN (7, 8, 19)"
    empty_database.command(lost, settings={"mutations_sync": 2})
    empty_database.command("TRUNCATE TABLE offsets")
    empty_database.command(
        "INSERT INTO offsets (topic, topic_id, partition, million, rows, present, first, last, newest_at)"
        " SELECT _topic, _topic_id, _partition, 0, count(), groupBitmapState(_offset), min(_offset), max(_offset),"
        " max(_timestamp) FROM events GROUP BY ALL"
    )
    missing_code, missing = operator.lines("audit", "--patience-s", "0")

    (double_line,) = [line for line in double if line["duplicates"]]
    (missing_line,) = [line for line in missing if line["missing"]]
    assert (code, double_line["duplicates"], double_line["duplicate_offsets"]) == (1, 2, "4-5")
    assert (missing_code, missing_line["missing"], missing_line["missing_offsets"]) == (1, 3, "7-8, 19")


def test_audit_counts_what_was_deleted_unread_as_missing(operator: Operator) -> None:
    """Retention was faster than the workers, and the group's offset was set to what is left: ten are gone for good."""
    broker = operator.broker
    if broker.name == "embedded":
        pytest.skip("the embedded broker deletes no records")
    _insert(operator, 20)
    deliver(broker.bootstrap_servers, operator.topic, [encoded(n) for n in range(20, 40)], 0)
    admin = broker.admin()
    (deleted,) = admin.delete_records([TopicPartition(operator.topic, 0, 30)]).values()
    deleted.result(60)
    _, lag = operator.lines("lag")
    before, _ = operator.lines("audit", "--patience-s", "0")
    member = consumer(broker, operator.environ["CONSUMER_GROUP_ID"])
    member.commit(offsets=[TopicPartition(operator.topic, 0, 30)], asynchronous=False)
    member.close()
    code, lines = operator.lines("audit", "--patience-s", "0")

    assert str(lag[0]["note"]).startswith("halted")
    assert before == 0
    (line,) = [line for line in lines if line["missing"]]
    assert (code, line["from"], line["missing"], line["missing_offsets"]) == (1, 0, 10, "20-29")


def test_audit_tells_gaps_of_a_topic_that_was_made_anew_apart(operator: Operator) -> None:
    """Its markers can't be looked up any more: named, neither called missing nor in the exit code."""
    if not operator.broker.supports_commit_metadata:
        pytest.skip("without metadata a commit names no topic ID")
    _insert(operator, 5, transactional_id=operator.topic)
    admin = operator.broker.admin()
    (deleted,) = admin.delete_topics([operator.topic]).values()
    deleted.result(60)
    operator.broker.create_topic(operator.topic, partitions=2)
    deliver(operator.broker.bootstrap_servers, operator.topic, [encoded(n) for n in range(30)], 0)
    code, output, said = operator.run("audit", "--json", "--patience-s", "0")

    (line,) = [line for line in map(json.loads, output.splitlines()) if line["unknown"]]
    assert (line["rows"], line["missing"], line["unknown_offsets"]) == (5, 0, "1, 3, 5, 7")
    assert code == 0
    assert "4 offsets of deleted topics are missing (gaps or loss: unknown)" in said


def test_a_dead_letter_is_repaired_and_replayed_from_the_command_line(
    operator: Operator, empty_database: Connection
) -> None:
    """Refused by a constraint, planned, repaired, put back, inserted by the running worker; a second time, nothing."""
    operator.make_tables()
    empty_database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 20")
    deliver(operator.broker.bootstrap_servers, operator.topic, [encoded(1), encoded(2, url="u" * 30), encoded(3)], 0)
    worker = operator.start("run")
    operator.await_page(
        "/metrics", lambda _, body: f'rows_inserted",partition="0",topic="{operator.dead_topic}"}} 1.0' in body
    )
    _, still = operator.lines("replay")
    _, planned = operator.lines("replay", "--reason", "constraint", "--set", "url=short")
    code, _, said = operator.run("replay", "--reason", "constraint", "--set", "url=short", "--go")
    deadline_s = time.monotonic() + WAIT_S
    while not (rows := empty_database.query("SELECT event_id FROM events_unique WHERE url = 'short'")):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    again_code, again = operator.lines("replay", "--set", "url=short", "--go")
    audit_code, _ = operator.lines("audit")
    finish(worker)

    assert still[0]["verdict"] == "would be refused again"
    assert (planned[0]["verdict"], planned[0]["changed"]) == ("can be replayed", "url")
    assert (code, "1 dead letters were put back" in said) == (0, True)
    assert [row["event_id"].int for row in rows] == [2]
    assert (again_code, again[0]["verdict"]) == (0, "was replayed before")
    assert audit_code == 0
    assert empty_database.query("SELECT count() AS n FROM events") == [{"n": 3}]


def test_without_tables_a_worker_says_what_to_run(operator: Operator) -> None:
    """One sentence, exit code 1, and nothing was read."""
    code, _, said = operator.run("run")

    assert code == 1
    assert said.splitlines()[-1].startswith("consumer: there is no table ")
    assert said.splitlines()[-1].endswith("run `python -m consumer migrate`")


def test_without_servers_a_worker_waits_and_stops_when_told(operator: Operator) -> None:
    """Nothing answers: healthy, not ready, and SIGTERM ends it at once."""
    nobody = f"127.0.0.1:{free_port()}"
    worker = operator.start("run", BOOTSTRAP_SERVERS=nobody)
    body = operator.await_page("/readyz", lambda status, _: status == 503)
    status, _ = operator.page("/healthz")
    code, lines = finish(worker)

    assert (json.loads(body)["status"], status) == ("starting", 200)
    assert code == 0
    assert lines[-1]["message"] == "worker stopped"


def test_a_wrong_setting_is_exit_code_2_and_its_name(operator: Operator) -> None:
    """The variable, and why."""
    code, _, said = operator.run("run", STALL_S="10")

    assert code == 2
    assert said == (
        "consumer: CONSUMER_STALL_S (10.0) must be above CONSUMER_INSERT_TIMEOUT_S (60.0):"
        " a running insert is progress\n"
    )


@pytest.mark.parametrize("command", ["run", "migrate", "audit", "replay", "lag"])
def test_help_says_what_it_does_and_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Worth reading, and short enough to be read."""
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    output = capsys.readouterr().out

    assert end.value.code == 0
    assert f"python -m consumer {command}" in output.partition("options:")[0].partition("\n\n")[2]
    assert 8 < len(output.splitlines()) < 50
