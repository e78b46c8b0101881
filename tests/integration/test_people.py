"""What the tables hold of people: erased with all that belongs to them, not put back, erased again when it returns."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest

from consumer.arguments import identifier
from consumer.clickhouse.client import Connection
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.streams import lines
from consumer.commands import say
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition
from consumer.errors import Fatal, Misconfigured
from consumer.operations.audit import Auditor
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.people import Kind, Person, external, rows_of
from consumer.operations.spans import Span
from consumer.people import _held, _readable
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded
from tests.support.held import KEY, LATER_MS, Held

ALICE, BOB = "alice-4711", "bob-0815"


@pytest.fixture
def held(database: Connection) -> Held:
    """Empty tables."""
    return Held(database)


def test_a_users_rows_go_and_those_of_their_visitor_ids_that_name_nobody(held: Held) -> None:
    """Another user of the same device keeps theirs, and is its owner when they signed in last."""
    later = {"occurredAt": AT_MS + 1}
    held.insert(
        held.events(
            {"userId": ALICE, "anonId": "own"},
            {"anonId": "own"},
            {"userId": ALICE, "anonId": "shared"},
            {"userId": BOB, "anonId": "shared"} | later,
            {"anonId": "shared"},
            {"userId": BOB, "anonId": "lent"},
            {"userId": ALICE, "anonId": "lent"} | later,
            {"anonId": "lent"},
            {"userId": ALICE},
            {"anonId": "nobody's"},
            {},
        )
    )
    found = held.eraser.count(held.people(Kind.USER, ALICE))

    assert (found.rows, found.letters) == ({Kind.USER: 4, Kind.VISITOR: 2}, 0)
    assert held.erase(Kind.USER, ALICE) == (6, 0)
    assert held.offsets() == [3, 4, 5, 9, 10]
    assert held.counted() == (11, 11)


def test_a_row_of_two_people_is_one(held: Held) -> None:
    """Somebody who is named twice, as a user and as a visitor too."""
    held.insert(held.events({"userId": ALICE, "anonId": "own"}, {"anonId": "own"}))
    people = [Person(kind, value, LATER_MS) for kind, value in (*[(Kind.USER, ALICE)] * 2, (Kind.ANON, "own"))]
    found = list(lines(held.database, rows_of({Kind.USER, Kind.ANON}, "e.*"), rows=external(people)))

    assert sorted(row["_offset"] for row in found) == [0, 1]
    assert held.eraser.count(people).rows == {Kind.USER: 1, Kind.ANON: 2}
    assert held.eraser.erase(people, KEY, "tester")[0] == 2


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [(Kind.ANON, "own", [2]), (Kind.EVENT, "00000000-0000-0000-0000-000000000001", [0, 2])],
)
def test_a_visitor_or_one_event_can_be_named(held: Held, kind: Kind, value: str, left: list[int]) -> None:
    """A visitor's rows go, whether somebody signed in or not."""
    held.insert(held.events({"userId": ALICE, "anonId": "own"}, {"anonId": "own"}, {"anonId": "other"}))
    held.erase(kind, value)

    assert held.offsets() == left


def test_copies_of_an_event_go_too(held: Held) -> None:
    """Also the one that a merge has not dropped yet, and that no query shows."""
    held.database.command("SYSTEM STOP MERGES events")
    once = held.events({"userId": ALICE})[0]
    held.insert([once])
    held.insert([once._replace(offset=9)])
    held.database.command("SYSTEM START MERGES events")  # a mutation is one

    assert held.erase(Kind.USER, ALICE)[0] in (1, 2)
    assert held.offsets() == []


def test_what_is_received_later_stays(held: Held) -> None:
    """Who comes back after that is somebody new."""
    held.insert(held.events({"userId": ALICE}, {"userId": ALICE, "receivedAt": AT_MS + 10}))
    held.erase(Kind.USER, ALICE, until_ms=AT_MS + 5)

    assert held.offsets() == [1]
    assert held.eraser.again(KEY, "tester") == (0, 0)
    assert held.offsets() == [1]


def test_a_worker_that_repeats_the_insert_puts_nothing_back(held: Held) -> None:
    """Nor is an offset missing for `resume`, or for the audit."""
    records = held.events({"userId": ALICE}, {"userId": BOB}, {"userId": ALICE})
    block = held.insert(records)
    held.erase(Kind.USER, ALICE)
    held.table.insert(block)
    repairer = ClickHouseRepairer(held.database, held.target, held.rows, Tally())

    assert repairer.repair(block, records) == 0
    assert held.offsets() == [1]
    place, tables = Partition(TOPIC, 0), {TOPIC: "events"}
    assert OffsetsTable(held.database, tables).kept(place, Intent("t", 0, 3)) == {0, 1, 2}
    assert Auditor(held.database, tables, None).audit(Span(place, "t", 0, 3)).is_clean


def test_what_is_read_again_is_erased_again(held: Held) -> None:
    """By its hash: the record has another place. Others stay, and so does the audit's count."""
    records = held.events({"userId": ALICE, "anonId": "own"}, {"anonId": "own"}, {"anonId": "a"}, {"userId": BOB})
    held.insert(records)
    held.erase(Kind.USER, ALICE)
    held.erase(Kind.ANON, "a")
    held.insert(records, reading=1)
    assert held.offsets() in ([0, 1, 2, 3], [0, 1, 2, 3, 3])

    assert held.eraser.again(KEY, "tester") == (3, 0)
    assert set(held.offsets()) == {3}
    assert held.counted() == (8, 4)
    assert held.eraser.again(KEY, "tester") == (0, 0)


def test_what_a_backup_brings_back_is_erased_again_without_its_hash(held: Held) -> None:
    """The same rows, under the same reading: also with another key, as far as it goes."""
    records = held.events({"userId": ALICE}, {"userId": BOB})
    held.insert(records)
    held.erase(Kind.USER, ALICE)
    held.database.command("CREATE TABLE backup AS events")
    held.database.command("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0")
    held.insert(records)
    other = ErasureKey(b"another key of some length")

    assert 0 in held.offsets()
    assert held.eraser.of_other_keys(other) == 1
    assert held.eraser.again(other, "tester")[0] == 1
    assert set(held.offsets()) == {1}


def test_dead_letters_lose_their_content_and_keep_their_place(held: Held) -> None:
    """As Avro, as JSON with its escapes, cut, and under their key; those of others stay whole."""
    named, other = encoded(1, userId=ALICE), encoded(2, userId=BOB)
    escaped = json.dumps({"userId": ALICE, "eventType": "HOVER"}).replace("a", "\\u0061").encode()
    number = b'{"userId": 4711}'
    held.bury([named, other, escaped, named[:-3], b'{"userId":"' + ALICE.encode(), number, b"nonsense"])

    assert held.erase(Kind.USER, ALICE) == (0, 4)
    assert held.contents() == [b"", other, b"", b"", b"", number, b"nonsense"]
    assert held.erase(Kind.USER, "4711") == (0, 1)
    assert held.erase(Kind.EVENT, "00000000-0000-0000-0000-000000000002") == (0, 1)
    assert held.contents() == [b""] * 6 + [b"nonsense"]


def test_a_dead_letters_key_names_its_person(held: Held) -> None:
    """The record's key is a visitor's id; its bytes need not tell."""
    held.bury([b"nonsense"], key=b"own")

    assert held.erase(Kind.ANON, "other") == (0, 0)
    assert held.erase(Kind.ANON, "own") == (0, 1)


def test_dead_letters_that_are_read_again_lose_their_content_again(held: Held) -> None:
    """Those that decode by their hash, the others by their place."""
    values = [encoded(1, userId=ALICE), encoded(1, userId=ALICE)[:-3], encoded(2, userId=BOB)]
    held.bury(values)
    held.erase(Kind.USER, ALICE)
    held.database.command("SYSTEM STOP MERGES dead_letters")
    held.bury(values, reading=1)
    assert values[0] in held.contents()
    held.database.command("SYSTEM START MERGES dead_letters")

    assert held.eraser.again(KEY, "tester") == (0, 2)
    assert set(held.contents()) == {b"", values[2]}


def test_a_mutation_that_was_killed_is_no_success(held: Held) -> None:
    """What it left is still there: the command says so, and the next run erases it."""
    held.insert(held.events({"userId": ALICE}, {"userId": BOB}))
    held.bury([encoded(1, userId=ALICE)])

    def kill(table: str, _: float) -> None:
        ours = f"database = currentDatabase() AND table = '{table}'"
        held.database.command(f"KILL MUTATION WHERE {ours} SYNC FORMAT Null")

    for table, count in (("events", 1), ("dead_letters", 1)):
        eraser = replace(held.eraser, wait=partial(kill, table))
        held.database.command(f"SYSTEM STOP MERGES {table}")
        with pytest.raises(Fatal, match=f"{count} rows are still there.*erase --again"):
            eraser.erase(held.people(Kind.USER, ALICE), KEY, "tester")
        held.database.command(f"SYSTEM START MERGES {table}")
    assert (held.offsets(), held.contents()) == ([1], [encoded(1, userId=ALICE)])

    assert held.eraser.again(KEY, "tester") == (0, 1)
    assert held.contents() == [b""]


def test_a_foreign_producers_bytes_end_no_command(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    """An id that is no UTF-8 is found, erased and found again like others; half a character in JSON is nobody's."""
    odd = b"v\xff\xc3(x".decode("utf-8", "surrogateescape")
    held.insert(held.events({"userId": ALICE, "anonId": "odd-visitor"}, {"anonId": "odd-visitor"}, {"userId": BOB}))
    held.database.command(
        "INSERT INTO events SELECT * REPLACE (generateUUIDv4() AS event_id, unhex('76FFC32878') AS anon_id,"
        f" unhex('FF') AS url, 1 AS _reading) FROM events WHERE user_id != '{BOB}'"
    )
    held.bury([b'{"userId": "\\ud800", "url": "\\udfff"}', b'{"anonId": "v\xff\xc3(x"}'])
    people = held.people(Kind.USER, ALICE)

    assert odd in {person.value for person in people}
    for line in _held(held.eraser, [*people, *held.people(Kind.USER, "\ud800")]):
        say(_readable(json.dumps(line, ensure_ascii=False, default=str)))
    shown = capsys.readouterr().out
    assert ('"anon_id": "v\ufffd\ufffd(x"' in shown, '"url": "\ufffd"' in shown) == (True, True)
    assert identifier(odd) == odd
    assert held.erase(Kind.USER, ALICE)[1] == 1
    assert {row["user_id"] for row in held.database.query("SELECT user_id FROM events")} == {BOB}
    assert held.eraser.again(KEY, "tester") == (0, 0)


def test_nothing_that_is_kept_tells_who_was_erased(held: Held) -> None:
    """Neither the tables, nor the mutations that ClickHouse remembers, nor its log of queries."""
    held.insert(held.events({"userId": ALICE, "anonId": "a-visitors-id"}, {"anonId": "a-visitors-id"}))
    held.bury([encoded(1, userId=ALICE)])
    held.erase(Kind.USER, ALICE)
    held.eraser.again(KEY, "tester")
    held.database.command("SYSTEM FLUSH LOGS")
    kept = [
        held.database.query(f"SELECT * FROM {table}") for table in ("erasures", "erased_rows", "events", "dead_letters")
    ]
    database = "database = currentDatabase()"
    kept.append(held.database.query(f"SELECT command FROM system.mutations WHERE {database}"))
    kept.append(
        held.database.query(
            "SELECT * FROM system.query_log WHERE current_database = currentDatabase() AND event_time > now() - 600"
        )
    )

    assert all(kept[number] for number in (0, 1, 3, 4, 5))
    for secret in (ALICE, "a-visitors-id", KEY.external().payload[20:60].decode()):
        assert secret not in str(kept)
    (row, _) = held.database.query("SELECT kind, digest FROM erasures ORDER BY kind")
    assert row == {"kind": "user_id", "digest": KEY.digest(ALICE)}


def test_a_key_is_long_enough_and_tells_itself_from_others() -> None:
    """Ids can be guessed; a key can't."""
    with pytest.raises(Misconfigured, match="16 or more"):
        ErasureKey(b"short")

    assert ErasureKey(os.urandom(100)).key_id != KEY.key_id == ErasureKey(b"a key of sixteen bytes or more").key_id
