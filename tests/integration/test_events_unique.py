"""What `events_unique` shows of several records under one id: the earliest, whatever merges and filters did."""

import json
from collections.abc import Callable

from consumer.clickhouse.client import Connection
from consumer.clickhouse.statements import PINNED

COUNT = 60_000
# Half of the ids are UUIDv7 of the time when the event came in first, half are random. Each id has up to three records:
# copies and other events, up to 40 days later (so often in another month), in other inserts, some in the same
# millisecond at another offset. `number` makes each record another one, so that the winner can be told.
ROWS = """
SELECT
    first_at_ms + [0, 0, 1, 86400000 * 40][1 + sipHash64('when', id, part) % 4] AS at_ms,
    if(id % 2 = 0, concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-7000-8000-', leftPad(hex(id), 12, '0')),
        toString(UUIDNumToString(toFixedString(unhex(hex(sipHash128(id))), 16)))) AS event_id,
    1 + sipHash64('offset', id, part) % 1000000000 AS offset,
    ['VIEW', 'PING', 'CLICK'][1 + sipHash64('type', id, part) % 3] AS type
FROM (
    SELECT number AS id, {part:UInt8} AS part, 1767225600000 + id * 43200 AS first_at_ms,
        leftPad(lower(hex(first_at_ms)), 12, '0') AS h
    FROM numbers({count:UInt32})
)
WHERE sipHash64('there', id, part) % 3 != 0
"""
INSERT = f"""
INSERT INTO events (event_id, event_type, received_at, occurred_at, properties_text, _topic, _offset)
SELECT toUUID(event_id), type, fromUnixTimestamp64Milli(at_ms, 'UTC'), fromUnixTimestamp64Milli(at_ms, 'UTC'),
    concat('{{"offset":', toString(offset), '}}'), 'events', offset
FROM ({ROWS})
"""
FILTERS: dict[str, Callable[[dict[str, int | str]], bool]] = {
    "1": lambda _: True,
    "received_at >= '2026-01-30' AND received_at < '2026-01-31'": lambda row: (
        1769731200000 <= int(row["at_ms"]) < 1769817600000
    ),
    "occurred_at >= '2026-01-10 10:00:00' AND occurred_at < '2026-01-10 11:00:00'": lambda row: (
        1768039200000 <= int(row["at_ms"]) < 1768042800000
    ),
    "received_at >= '2026-02-10'": lambda row: int(row["at_ms"]) >= 1770681600000,
    "event_type = 'CLICK'": lambda row: row["type"] == "CLICK",
    "properties.offset::Int64 % 7 = 0": lambda row: int(row["offset"]) % 7 == 0,
}


def shown(database: Connection, condition: str) -> list[tuple[str, int]]:
    """Return id and offset of each event that the view shows."""
    query = f"SELECT toString(event_id) AS id, _offset AS offset FROM events_unique WHERE {condition} ORDER BY id"
    return [(row["id"], row["offset"]) for row in database.query(query)]


def first(rows: list[dict[str, int | str]]) -> dict[str, int | str]:
    """Return the record that counts: the earliest, and the lowest offset of two that came at once."""
    return min(rows, key=lambda row: (int(row["at_ms"]), int(row["offset"]) % 2**20))


def test_the_earliest_record_of_an_id_is_shown_whatever_merged_and_is_asked(database: Connection) -> None:
    """Copies and other events under one id, in other months, types and inserts; no filter brings up a later one."""
    by_id: dict[str, list[dict[str, int | str]]] = {}
    database.command("SYSTEM STOP MERGES events")
    for part in range(3):
        values = {"part": part, "count": COUNT}
        database.command(INSERT, values, settings=PINNED | {"insert_deduplication_token": f"part {part}"})
        for row in database.query(ROWS, values):
            by_id.setdefault(row["event_id"].lower(), []).append(row)
    winners = {event_id: first(rows) for event_id, rows in by_id.items()}
    wanted = {
        condition: sorted((event_id, int(row["offset"])) for event_id, row in winners.items() if holds(row))
        for condition, holds in FILTERS.items()
    }
    assert len(winners) > COUNT * 0.9
    assert all(wanted.values())

    assert {condition: shown(database, condition) for condition in FILTERS} == wanted
    for _ in range(2):  # in each month, and again when nothing is left to merge
        database.command("SYSTEM START MERGES events")
        database.command("OPTIMIZE TABLE events FINAL")
        assert {condition: shown(database, condition) for condition in FILTERS} == wanted


def test_a_readers_profile_changes_nothing(database: Connection) -> None:
    """Settings that make FINAL faster and wrong do not reach the view; neither do those of JSON."""
    late, early = "2026-02-01 00:00:00", "2026-01-31 23:59:59.999"
    text = json.dumps({"a.b": 1, "a": {"b": 2}, "t": ["a", True], "b": [True, 2], "day": "2026-01-02"})
    for number, (at, kind) in enumerate(((late, "late"), (early, "early"))):
        database.command(
            "INSERT INTO events (event_id, event_type, received_at, properties_text, _offset)"
            " SELECT '11111111-1111-4111-8111-111111111111', {kind:String}, {at:String}, {text:String}, {n:UInt8}",
            {"kind": kind, "at": at, "text": text, "n": number},
        )
    query = (
        "SELECT event_type, properties::String AS p, dynamicType(properties.day) AS day FROM events_unique {where}"
        " SETTINGS"
        " do_not_merge_across_partitions_select_final = 1, defer_partition_pruning_after_final = 0,"
        " use_skip_indexes_if_final_exact_mode = 0, optimize_move_to_prewhere_if_final = 1,"
        " type_json_skip_duplicated_paths = 0, input_format_json_read_bools_as_numbers = 1,"
        " input_format_try_infer_dates = 1"
    )

    assert database.query(query.format(where="WHERE received_at >= '2026-02-01'")) == []
    (row,) = database.query(query.format(where=""))
    assert (row["event_type"], row["day"]) == ("early", "String")
    assert json.loads(row["p"]) == {
        "a%2Eb": 1,
        "a": {"b": 2},
        "t": ["a", True],
        "b": [True, 2],
        "day": "2026-01-02",
    }


def test_rows_are_found_by_the_ids_of_people_and_pages_without_reading_the_table(database: Connection) -> None:
    """Each id of a bloom filter, through the view: the granules that have it, and those with the same keys."""
    database.command(
        "INSERT INTO events (event_id, received_at, _offset, ping_id, anon_id, user_id, content_id, trace_id)"
        " SELECT generateUUIDv7(), now64(3), number, generateUUIDv4(), concat('a', n), concat('u', n), concat('c', n),"
        " concat('t', n) FROM (SELECT number, toString(intDiv(number, 50)) AS n FROM numbers(100000))",
        settings=PINNED,
    )
    (row,) = database.query("SELECT * FROM events WHERE _offset = 50000")
    for name in ("ping_id", "anon_id", "user_id", "content_id", "trace_id"):
        plan = database.query(f"EXPLAIN indexes = 1 SELECT * FROM events_unique WHERE {name} = '{row[name]}'")
        lines = [line["explain"].strip() for line in plan]
        (read,) = [int(line.rpartition(" ")[2]) for line in lines if line.startswith("Parts: 1 | Granules: ")]
        assert "Granules: 13/13" in lines
        assert read < 10, plan  # the ids are random: some granules say wrongly that they may have one


def test_the_view_says_what_each_column_is(database: Connection) -> None:
    """Analysts read the comments of the view, not of the table behind it."""
    query = "SELECT name FROM system.columns WHERE database = currentDatabase() AND endsWith(table, '_unique')"

    assert database.query(f"{query} AND comment = ''") == []
    assert len(database.query(query)) > 80


def test_a_row_is_found_by_its_id_without_reading_the_table(database: Connection) -> None:
    """One granule of each part, whatever form the id has."""
    database.command(
        "INSERT INTO events (event_id, received_at, _offset)"
        " SELECT if(number % 2, generateUUIDv7(), generateUUIDv4()), now64(3), number FROM numbers(100000)",
    )
    for parity in (0, 1):
        (row,) = database.query(f"SELECT toString(event_id) AS id FROM events WHERE _offset = {50_000 + parity}")
        for form in (f"'{row['id']}'", f"toUUID('{row['id']}')", f"'{row['id'].upper()}'"):
            plan = database.query(f"EXPLAIN indexes = 1 SELECT * FROM events_unique WHERE event_id = {form}")
            granules = [line["explain"].strip() for line in plan if "Granules: " in line["explain"]]
            assert granules[-1] in ("Granules: 1/13", "Granules: 2/13"), plan
