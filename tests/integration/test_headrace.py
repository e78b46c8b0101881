"""`headrace find`, `tail`, `top` and `doctor` on a real broker and ClickHouse, at each station of an event's way."""

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from headrace.__main__ import parser_of
from headrace.environment import Environment
from headrace.services import Services
from ingest.events.ids import uuid7
from ingest.publishing.ports import Record
from ingest.spool.file import SpoolFile
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import consumer, deliver, producer
from tests.support.operator import Operator
from tests.support.ports import free_port

Told = tuple[int, list[dict[str, Any]]]


class Hands:
    """Runs commands in this process, with the settings of an operator and of a spool."""

    def __init__(self, operator: Operator, spool_dir: Path) -> None:
        self.operator = operator
        self.spool_dir = spool_dir
        own = {name: text for name, text in operator.environ.items() if name.startswith("CONSUMER_")}
        self.variables = own | {"INGEST_SPOOL_DIR": str(spool_dir)}

    def run(self, capsys: pytest.CaptureFixture[str], *words: str, **settings: str) -> Told:
        """Run a command with --json; return exit code and lines."""
        arguments = parser_of(words).parse_args([*words, "--json"])
        variables = self.variables | {f"CONSUMER_{name}": text for name, text in settings.items()}
        code = arguments.call(Services(Environment(variables, "")), arguments)
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def find(self, capsys: pytest.CaptureFixture[str], event_id: str, *words: str, **settings: str) -> tuple[int, str]:
        """Return exit code and verdict of `find`."""
        code, lines = self.run(capsys, "find", event_id, *words, **settings)
        return code, str(lines[-1]["verdict"])


@pytest.fixture
def hands(operator: Operator, tmp_path: Path) -> Hands:
    """The commands, on migrated tables."""
    assert operator.run("migrate")[0] == 0
    return Hands(operator, tmp_path)


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The setting of a broker that is away, which is given up after a second."""
    for module in ("admin", "scan", "inspection"):
        monkeypatch.setattr(f"consumer.kafka.{module}._CALL_S", 1.0)
    return {"BOOTSTRAP_SERVERS": _away()}


def _id(number: int) -> str:
    return str(uuid.UUID(int=number))


def _away() -> str:
    return f"127.0.0.1:{free_port()}"


def _send_dead_letter(operator: Operator, request_id: str) -> None:
    """Send what the ingress refused of a lenient request."""
    sender = producer(operator.broker.bootstrap_servers)
    headers = {
        "reason": "unknown_type",
        "error": "invalid event type",
        "service": "headrace-ingest/1",
        "request_id": request_id,
    }
    named: list[tuple[str, str | bytes | None]] = [
        (f"headrace.{name}", text.encode()) for name, text in headers.items()
    ]
    sender.produce(operator.dead_topic, b'{"eventType": "NONE"}', f"ingress/{request_id}".encode(), headers=named)
    assert sender.flush(60) == 0


def _send_with_a_clock_ahead(operator: Operator, now_ms: int) -> str:
    """Send an event of two hours ago whose id says that it is of an hour ago; return the id."""
    event_id = uuid7(now_ms - 3_600_000)
    sender = producer(operator.broker.bootstrap_servers)
    sender.produce(operator.topic, encoded(5, eventId=event_id), partition=1, timestamp=now_ms - 7_200_000)
    assert sender.flush(60) == 0
    return event_id


def test_find_tells_the_truth_at_each_station(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """From the spool to a row, to a dead letter, to a row that was deleted; and of what nobody has seen, "nowhere".

    By the event's id, and by the id that a client chose for its request: a UUIDv7, as events have, or a word. What the
    workers have not inserted is found whatever the time in its id.
    """
    operator = hands.operator
    servers = operator.broker.bootstrap_servers
    now_ms = time.time_ns() // 1_000_000
    chosen = [uuid7(now_ms) for _ in range(5)]
    spooled, row, refused, letter, strange = chosen
    traced = [{"traceId": one.replace("-", "")} for one in chosen]
    spool = SpoolFile(hands.spool_dir / "1-1.db")
    spool.append([Record(b"", encoded(1, **traced[0]))], 1_767_323_045_678)
    spool.close()
    events = [encoded(2, **traced[1]), encoded(3, active=5000, **traced[2]), encoded(4)]
    deliver(servers, operator.topic, events, 0)
    ahead = _send_with_a_clock_ahead(operator, now_ms)
    _send_dead_letter(operator, "order-4711")
    _send_dead_letter(operator, letter)

    assert hands.find(capsys, spooled) == (0, "spool")
    for sent in (row, letter, ahead):
        assert hands.find(capsys, sent) == (0, "topic")
    assert hands.find(capsys, strange, "--event") == (1, "nowhere")
    assert hands.find(capsys, strange) == (3, "unknown")

    operator.work()
    operator.await_rows(3)
    operator.await_status("idle", "/healthz")
    operator.stop()

    for sent in (_id(2), row, row.replace("-", "").upper()):
        assert hands.find(capsys, sent) == (0, "row")
    for sent in ("order-4711", letter, refused):
        assert hands.find(capsys, sent) == (0, "dead_letter")
    code, lines = hands.run(capsys, "find", _id(3))
    assert (code, lines[-1]["verdict"]) == (0, "dead_letter")
    assert "bad_value" in lines[-1]["sentence"]

    operator.database.command("ALTER TABLE events DELETE WHERE _offset IN (0, 2)", settings={"mutations_sync": 2})
    assert hands.find(capsys, _id(2)) == (0, "gone")
    operator.database.command("ALTER TABLE dead_letters DELETE WHERE true", settings={"mutations_sync": 2})
    assert hands.find(capsys, "order-4711") == (0, "gone")


def test_find_takes_a_clickhouse_that_is_away_for_unknown(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """What the others say is still told; a record that was passed is not missing, and another is not nowhere."""
    operator = hands.operator
    operator.send(1)
    member = consumer(operator.broker, operator.environ["CONSUMER_GROUP_ID"])
    member.commit(offsets=[TopicPartition(operator.topic, 0, 1)], asynchronous=False)
    member.close()
    away = {"CLICKHOUSE_URL": f"http://{_away()}"}

    code, lines = hands.run(capsys, "find", _id(0), **away)
    assert (code, lines[-1]["verdict"]) == (0, "topic")
    assert "unknown" in lines[-1]["sentence"]
    assert hands.find(capsys, uuid7(time.time_ns() // 1_000_000), "--event", **away) == (3, "unknown")
    assert hands.find(capsys, _id(0)) == (1, "missing")
    hands.variables["INGEST_SPOOL_DIR"] = str(hands.spool_dir / "none")
    assert hands.find(capsys, _id(9)) == (3, "unknown")


def test_find_takes_brokers_that_are_away_for_unknown(
    hands: Hands, capsys: pytest.CaptureFixture[str], no_broker: dict[str, str]
) -> None:
    """A row is found without them, and nothing else is "not there"."""
    statement = "INSERT INTO events (event_id, _topic, _topic_id) VALUES ({id:UUID}, 'events', 'id')"
    hands.operator.database.command(statement, {"id": _id(8)})

    assert hands.find(capsys, _id(8), **no_broker) == (0, "row")
    assert hands.find(capsys, uuid7(time.time_ns() // 1_000_000), "--event", **no_broker) == (3, "unknown")


def test_a_search_that_is_cut_short_is_unknown(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of the log may have it."""
    hands.operator.send(3)

    assert hands.find(capsys, _id(9), "--timeout-s", "0.000001") == (3, "unknown")


def test_tail_shows_what_arrives_and_what_came_before(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """From an offset, from a time, or only what is new; filtered, and with bytes that are no event."""
    operator = hands.operator
    events = [encoded(1, clientId="web"), encoded(2, clientId="app", eventType="CLICK"), b"nonsense"]
    deliver(operator.broker.bootstrap_servers, operator.topic, events, 1)
    place = f"{operator.topic}/1"

    code, lines = hands.run(capsys, "tail", "--partition", place, "--from-offset", "0", "--count", "3")
    assert code == 0
    assert [line.get("bytes") or line["event"]["eventId"] for line in lines] == [_id(1), _id(2), b"nonsense".hex()]
    code, lines = hands.run(capsys, "tail", "--from-time", "2026-01-01", "--client", "app", "--count", "1")
    assert (code, [line["offset"] for line in lines]) == (0, [1])
    assert hands.run(capsys, "tail", "--for-s", "0.5", "--count", "1") == (1, [])
    assert hands.run(capsys, "tail", "--for-s", "0.5") == (0, [])


def test_top_shows_lag_and_what_is_unknown(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """Lag and age with a worker away; without ClickHouse the lag is shown all the same."""
    operator = hands.operator
    operator.send(7)

    code, (look,) = hands.run(capsys, "top", "--once", "--every-s", "0.1")
    (line,) = [line for line in look["partitions"] if line["lag"]]
    assert (code, line["topic"], line["partition"], line["lag"]) == (0, operator.topic, 0, 7)
    assert line["waiting_s"] >= 0
    assert look["tables"]["rows_per_minute"] == 0
    code, (look,) = hands.run(capsys, "top", "--once", "--every-s", "0.1", CLICKHOUSE_URL=f"http://{_away()}")
    assert (code, len(look["unknown"]), len(look["partitions"])) == (3, 1, 3)


def _said(lines: list[dict[str, Any]], text: str) -> Mapping[str, Any]:
    (found,) = [line for line in lines if text in line["says"]]
    return found


def test_doctor_says_what_holds_here(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """One node of Apache Kafka: intents are kept and clocks agree, but there is one copy, and no worker."""
    if hands.operator.broker.name == "embedded":
        pytest.skip("the embedded broker has no clock that can be read")
    code, lines = hands.run(capsys, "doctor")

    assert _said(lines, "every record becomes one row")["level"] == "holds"
    assert _said(lines, f"{hands.operator.topic} has one copy")["level"] == "weak"
    assert _said(lines, "no worker runs")["level"] == "weak"
    assert _said(lines, "the tables are whole")["level"] == "holds"
    assert _said(lines, "no audit has run yet")["level"] == "unknown"
    assert {line["level"] for line in lines if "clock is" in line["says"]} == {"holds"}
    assert len([line for line in lines if "broker " in line["says"] and "clock is" in line["says"]]) == 1
    assert all(line["cure"] for line in lines if line["level"] in {"weak", "broken"})
    assert code == (1 if "broken" in {line["level"] for line in lines} else 3)


def test_doctor_finds_a_broken_table(hands: Hands, capsys: pytest.CaptureFixture[str]) -> None:
    """With the sentence of preflight, and exit code 1."""
    hands.operator.database.command("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 5")

    code, lines = hands.run(capsys, "doctor")

    assert code == 1
    assert _said(lines, "remembers 5 blocks")["level"] == "broken"


def test_doctor_takes_servers_that_are_away_for_unknown(
    hands: Hands, capsys: pytest.CaptureFixture[str], no_broker: dict[str, str]
) -> None:
    """Nothing is said of them but that."""
    code, lines = hands.run(capsys, "doctor", CLICKHOUSE_URL=f"http://{_away()}", **no_broker)

    unknown = [line["says"] for line in lines if line["level"] == "unknown"]
    assert any(text.startswith("Kafka") for text in unknown)
    assert any(text.startswith("ClickHouse") for text in unknown)
    assert code == (1 if "broken" in {line["level"] for line in lines} else 3)
