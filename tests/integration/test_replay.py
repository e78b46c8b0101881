"""Replays on a real ClickHouse and a real broker: planned first, made once, the same event again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.rows import DeadLetterRows, EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Poison, Record
from consumer.errors import Reason
from consumer.kafka.dead_letters import DeadLetterProducer, KafkaDeadLetters
from consumer.metrics import PrometheusMetrics
from consumer.operations.replay import Choice, Letter, Replay, ReplayVerdict
from schemas.arguments import moment_ms
from schemas.codec import FRAME_BYTES, decode
from schemas.registry import LocalSchemas
from tests.support.fixtures_consumer import AT_MS, EVENT, TOPIC, encoded, record
from tests.support.kafka import Broker
from tests.support.kafka_clients import consumer, read

DEAD = "dead"


def headers_of(message: Message) -> tuple[tuple[str, bytes], ...]:
    """Return a record's headers, which are bytes here."""
    headers: Any = message.headers() or ()
    return tuple(headers)


class Graveyard:
    """Dead letters in their table, by the worker's own way: to the topic, from the topic, into the table."""

    def __init__(self, database: Connection, broker: Broker, new_topic: Callable[..., str]) -> None:
        self.database = database
        self.broker = broker
        self.events, self.dead = new_topic(partitions=2), new_topic()
        self.properties: dict[str, str | int] = {"bootstrap.servers": broker.bootstrap_servers}
        self.letters = KafkaDeadLetters(self.properties, self.dead)
        self.publisher = DeadLetterProducer(self.properties, self.events)
        self.rows = EventRows(LocalSchemas())
        target = Target("events", "event", TOPIC, 30)
        self.table = ClickHouseTable(database, target, self.rows, LocalSchemas().schema_of, PrometheusMetrics())
        self.replay = Replay(database, self.table, self.rows, LocalSchemas().schema_of)

    def bury(self, poison: dict[int, tuple[bytes, Reason]]) -> None:
        """Refuse records: offset, value and reason of each."""
        records = [record(offset, value)._replace(headers=(("trace", b"t1"),)) for offset, (value, _) in poison.items()]
        self.letters.send(
            records, [Poison(offset, why, "no") for offset, (_, why) in poison.items()], Origin("incarnation")
        )
        member: Consumer = consumer(self.broker, "unused")
        member.assign([TopicPartition(self.dead, 0, 0)])
        rows = DeadLetterRows()
        letters = [
            Record(
                Partition(DEAD, 0),
                int(message.offset() or 0),
                AT_MS,
                message.key() or b"",
                message.value() or b"",
                headers_of(message),
            )
            for message in read(member, len(poison))
        ]
        member.close()
        table = ClickHouseTable(
            self.database, Target("dead_letters", "dead_letter", DEAD, 30), rows, None, PrometheusMetrics()
        )
        block: Block
        for block in rows.blocks(letters, Origin("incarnation"), "token"):
            table.insert(block)

    def plan(
        self, choice: Choice | None = None, repairs: dict[str, str] | None = None, *, again: bool = False
    ) -> dict[str, Letter]:
        """Return the plan by letter."""
        found = self.replay.plan(choice or Choice(TOPIC), repairs or {}, again=again)
        return {letter.letter_id: letter for letter in found}

    def go(self, letters: dict[str, Letter]) -> int:
        """Make a plan true."""
        return self.replay.make(list(letters.values()), self.publisher, "tester@here")

    def on_topic(self, count: int) -> list[Record]:
        """Return what stands on the events topic."""
        member: Consumer = consumer(self.broker, "unused")
        member.assign([TopicPartition(self.events, number, 0) for number in range(2)])
        found = [
            Record(
                Partition(TOPIC, int(message.partition() or 0)),
                int(message.offset() or 0),
                AT_MS,
                message.key() or b"",
                message.value() or b"",
                headers_of(message),
            )
            for message in read(member, count)
        ]
        member.close()
        return found

    def insert(self, records: list[Record]) -> None:
        """Insert records as the worker does."""
        assert self.rows.screen(records) == []
        for place in {item.partition for item in records}:
            for block in self.rows.blocks(
                [item for item in records if item.partition == place], Origin("now"), f"t{place}"
            ):
                self.table.insert(block)

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        (row,) = self.database.query(f"SELECT count() AS n FROM {table}")
        return int(row["n"])


@pytest.fixture
def graveyard(database: Connection, embedded_broker: Broker, new_topic: Callable[..., str]) -> Iterator[Graveyard]:
    """A graveyard of the test's own."""
    made = Graveyard(database, embedded_broker, new_topic)
    yield made
    made.letters.close()
    made.publisher.close()


def letter(offset: int) -> str:
    """Return the name of an offset's dead letter."""
    return f"{TOPIC}/0/{offset}"


def test_a_dead_letter_whose_cause_is_gone_becomes_the_row_it_should_have_been(
    graveyard: Graveyard, database: Connection
) -> None:
    """A constraint was dropped: same bytes, same key, same headers, same event id, and a note of who did it."""
    graveyard.bury({7: (encoded(7, url="https://long.example/"), Reason.CONSTRAINT)})

    made = graveyard.go(graveyard.plan())
    (back,) = graveyard.on_topic(1)
    graveyard.insert([back])

    assert made == 1
    assert (back.key, back.value) == (b"key", encoded(7, url="https://long.example/"))
    assert dict(back.headers) == {
        "trace": b"t1",
        "replay_of": letter(7).encode(),
        "replayed_by": b"tester@here",
        "replay_changed": b"",
    }
    (row,) = database.query(
        "SELECT url, _offset FROM events_unique WHERE event_id = toUUID('" + "0" * 8 + "-0000-0000-0000-000000000007')"
    )
    assert row["url"] == "https://long.example/"
    (note,) = database.query("SELECT letter_id, replayed_by, offset FROM replays")
    assert (note["letter_id"], note["replayed_by"], note["offset"]) == (letter(7), "tester@here", back.offset)


def test_a_plan_changes_nothing(graveyard: Graveyard, database: Connection) -> None:
    """The dry run reads."""
    graveyard.bury({7: (encoded(7), Reason.CONSTRAINT)})
    before = database.query("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name")

    (found,) = graveyard.plan().values()

    assert found.verdict is ReplayVerdict.READY
    assert [graveyard.count(name) for name in ("events", "replays", "offsets")] == [0, 0, 1]
    assert database.query("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name") == before


def test_twice_changes_nothing(graveyard: Graveyard) -> None:
    """The second time it is noted; with --again, and after a crash before the note, it is the same event."""
    graveyard.bury({7: (encoded(7), Reason.CONSTRAINT), 8: (encoded(8), Reason.CONSTRAINT)})
    graveyard.go(graveyard.plan())

    second = graveyard.plan()
    assert {item.verdict for item in second.values()} == {ReplayVerdict.REPLAYED}
    assert graveyard.go(second) == 0

    assert graveyard.go(graveyard.plan(again=True)) == 2
    graveyard.insert(graveyard.on_topic(4))
    assert graveyard.count("events_unique") == 2
    assert {item.verdict for item in graveyard.plan(again=True).values()} == {ReplayVerdict.PRESENT}


def test_an_event_that_came_by_another_way_is_not_sent_again(graveyard: Graveyard) -> None:
    """The client repaired it and posted it once more, under its id."""
    graveyard.bury({7: (encoded(7), Reason.CONSTRAINT)})
    graveyard.insert([record(100, encoded(7))])

    assert graveyard.plan()[letter(7)].verdict is ReplayVerdict.PRESENT


def test_what_the_table_would_refuse_again_stays(graveyard: Graveyard, database: Connection) -> None:
    """One of three is still bad; the table is asked without writing, and says why."""
    database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 10")
    graveyard.bury(
        {
            5: (encoded(5), Reason.CONSTRAINT),
            6: (encoded(6, url="https://S3CRET.example/"), Reason.CONSTRAINT),
            7: (encoded(7, active=5000), Reason.BAD_VALUE),
            8: (encoded(8), Reason.CONSTRAINT),
        }
    )

    plan = graveyard.plan()

    assert [plan[letter(offset)].verdict for offset in (5, 6, 7, 8)] == [
        ReplayVerdict.READY,
        ReplayVerdict.REFUSED,
        ReplayVerdict.REFUSED,
        ReplayVerdict.READY,
    ]
    assert plan[letter(6)].detail == (
        "constraint: constraint short_url is violated (ClickHouse 469 VIOLATED_CONSTRAINT, constraint short_url)"
    )
    assert graveyard.go(plan) == 2
    assert graveyard.count("events") == 0


def test_a_field_can_be_repaired(graveyard: Graveyard) -> None:
    """Text as it is, numbers and maps as JSON; the id stays, and the note says which fields."""
    graveyard.bury({7: (encoded(7, properties="[]", active=5000), Reason.BAD_VALUE)})

    plan = graveyard.plan(repairs={"properties": '{"fixed":1}', "active": "1", "clientId": ""})
    graveyard.go(plan)
    (back,) = graveyard.on_topic(1)
    event = decode(back.value[FRAME_BYTES:], EVENT)

    assert plan[letter(7)].changed == ("active", "properties")
    assert (event["properties"], event["active"], str(event["eventId"])[-2:]) == ('{"fixed":1}', 1, "07")
    assert dict(back.headers)["replay_changed"] == b"active,properties"


@pytest.mark.parametrize(
    ("value", "repairs", "said"),
    [
        (encoded(7)[:-3], {}, "not a record of this schema"),
        (b"nonsense", {}, "no frame"),
        (encoded(7)[:1] + b"\x00\x00\x00\x09" + encoded(7)[5:], {}, "schema id 9"),
        (encoded(7), {"colour": "red"}, "no field 'colour'"),
        (encoded(7), {"active": "yes"}, "active needs a whole number"),
    ],
    ids=["truncated", "no frame", "unknown schema", "no such field", "no such value"],
)
def test_what_cannot_be_read_or_repaired_is_said_and_stays(
    graveyard: Graveyard, value: bytes, repairs: dict[str, str], said: str
) -> None:
    """One bad letter is no reason to stop at it."""
    graveyard.bury({7: (value, Reason.BAD_AVRO), 8: (encoded(8, clientId="x"), Reason.CONSTRAINT)})

    plan = graveyard.plan(repairs=repairs)

    assert plan[letter(7)].verdict is ReplayVerdict.UNREADABLE
    assert said in plan[letter(7)].detail
    assert plan[letter(8)].verdict is (ReplayVerdict.UNREADABLE if repairs else ReplayVerdict.READY)


def test_what_was_replayed_before_takes_no_room_from_what_was_not(graveyard: Graveyard) -> None:
    """The limit would otherwise be filled by the same letters for ever; they are named when there is room."""
    graveyard.bury({offset: (encoded(offset), Reason.CONSTRAINT) for offset in range(5)})

    def offsets(limit: int, *, again: bool = False) -> list[int]:
        return [item.record.offset for item in graveyard.plan(Choice(TOPIC, limit=limit), again=again).values()]

    assert offsets(2) == [0, 1]
    graveyard.go(graveyard.plan(Choice(TOPIC, limit=2)))
    assert offsets(2) == [2, 3]
    assert offsets(9) == [2, 3, 4, 0, 1]
    assert offsets(2, again=True) == [0, 1]


def test_letters_are_chosen_by_reason_name_and_time(graveyard: Graveyard) -> None:
    """Each filter alone; dead letters of another topic, and of the ingress, are never among them."""
    graveyard.bury(
        {offset: (encoded(offset), Reason.CONSTRAINT if offset % 2 else Reason.BAD_VALUE) for offset in range(6)}
    )

    def offsets(**choice: object) -> list[int]:
        return [item.record.offset for item in graveyard.plan(Choice(TOPIC, **choice)).values()]  # type: ignore[arg-type]  # its fields

    assert offsets() == [0, 1, 2, 3, 4, 5]
    assert offsets(reasons=("constraint",)) == [1, 3, 5]
    assert offsets(ids=(letter(4), letter(2))) == [2, 4]
    assert offsets(partition=1) == []
    assert offsets(limit=2) == [0, 1]
    later_ms = moment_ms("2026-01-02T03:04:06")
    assert offsets(since_ms=later_ms) == []
    assert offsets(until_ms=later_ms) == [0, 1, 2, 3, 4, 5]
    assert graveyard.plan(Choice("elsewhere")) == {}
