"""Puts dead letters back onto the topic after their cause was repaired.

A replayed record keeps its event id, so it is the same event, and goes the way of all records: topic, worker, table.
The table `replays` records it, and it is not replayed again. Before anything is sent, a probe table tells what the
table would refuse again; those dead letters stay where they are.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import FIRST_SHARD
from consumer.clickhouse.statements import PINNED
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Poison, Record, Rows
from consumer.errors import Rejected
from consumer.kafka.dead_letters import SERVICE, DeadLetterProducer, Outgoing
from schemas.codec import FRAME_BYTES, LETTER_HEADER, Encoder, FrameError, decode, schema_id_of

UNTIL_MS: Final = 10_413_792_000_000
"""The year 2300, where the column of Kafka's timestamps ends."""
_LETTERS: Final = """
SELECT letter_id, origin_topic AS topic, origin_partition AS partition, origin_offset AS offset, reason,
    toUnixTimestamp64Milli(origin_at) AS at_ms, hex(key) AS key, hex(value) AS value, headers
FROM {of_dead_letters:Identifier} FINAL
WHERE origin_topic = {topic:String}
    AND (empty({reasons:Array(String)}) OR reason IN {reasons:Array(String)})
    AND (empty({ids:Array(String)}) OR letter_id IN {ids:Array(String)})
    AND ({partition:Int32} < 0 OR origin_partition = {partition:Int32})
    AND origin_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
    AND origin_at < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')
ORDER BY {again:UInt8} = 0 AND letter_id GLOBAL IN (SELECT letter_id FROM {of_replays:Identifier}),
    origin_partition, origin_offset
LIMIT {limit:UInt32}
"""
_REPLAYED: Final = "SELECT DISTINCT letter_id FROM {of_replays:Identifier} WHERE letter_id IN {ids:Array(String)}"
_PRESENT: Final = """
SELECT DISTINCT toString(event_id) AS id FROM {of_events:Identifier}
WHERE event_type IN {types:Array(String)} AND client_id IN {clients:Array(String)} AND event_id IN {ids:Array(UUID)}
"""
_NOT_ASKED: Final = Rejected("not asked yet", 0)
_NOTE: Final = """
INSERT INTO {of_replays:Identifier}
SELECT {letter:String}, {topic:String}, {partition:UInt32}, {offset:UInt64},
    {changed:Array(String)}, {by:String}, {service:String}, now64(3, 'UTC')
"""


class ReplayVerdict(StrEnum):
    """The result for a dead letter, as the command prints it."""

    READY = "can be replayed"
    REPLAYED = "was replayed before"
    PRESENT = "its event is in the table"
    UNREADABLE = "does not decode"
    REFUSED = "would be refused again"
    ERASED = "its person was erased"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters to replay.

    Attributes:
        topic: the topic of the original records.
        reasons: only with one of these reasons; empty: any.
        ids: only these dead letters; empty: all.
        partition: only from this partition; -1: all.
        since_ms: not before this Kafka timestamp, in Unix ms.
        until_ms: before this Kafka timestamp, in Unix ms.
        limit: at most this many, lowest offsets first; what was replayed before comes last.
    """

    topic: str
    reasons: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    partition: int = -1
    since_ms: int = 0
    until_ms: int = UNTIL_MS
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, and the plan for it.

    Attributes:
        letter_id: its name.
        record: the record as it was on the topic, or repaired.
        reason: why it is a dead letter.
        verdict: whether it can be replayed.
        detail: why not.
        event: its fields; empty when it does not decode.
        changed: the fields that were repaired.
    """

    letter_id: str
    record: Record
    reason: str
    verdict: ReplayVerdict = ReplayVerdict.READY
    detail: str = ""
    event: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """Plans and does replays.

    Attributes:
        connection: connects to the tables.
        table: tells whether it would accept a record now.
        rows: screens and encodes records as the worker does.
        schema_of: returns the text of a writer schema.
    """

    connection: Connection
    table: ClickHouseTable
    rows: Rows
    schema_of: Callable[[int], str]

    def plan(self, choice: Choice, repairs: Mapping[str, str], *, again: bool) -> list[Letter]:
        """Return the chosen dead letters with their verdicts; nothing is changed.

        Args:
            choice: which dead letters.
            repairs: fields to set in each of them, by their Avro names; numbers and maps as JSON.
            again: also replay those that were replayed before.

        Raises:
            Transient, Fatal: a server is away, or a table is missing.
        """
        letters = [self._read(letter, repairs) for letter in self._chosen(choice, again=again)]
        done = set() if again else self._column(_REPLAYED, "letter_id", {"ids": [item.letter_id for item in letters]})
        letters = [_judged(item, ReplayVerdict.REPLAYED) if item.letter_id in done else item for item in letters]
        there = self._present([item for item in letters if item.verdict is ReplayVerdict.READY])
        is_there = {item.letter_id for item in letters if str(item.event.get("eventId")) in there}
        letters = [_judged(item, ReplayVerdict.PRESENT) if item.letter_id in is_there else item for item in letters]
        refused = self._refused([item.record for item in letters if item.verdict is ReplayVerdict.READY])
        return [
            _judged(item, ReplayVerdict.REFUSED, refused[item.record]) if item.record in refused else item
            for item in letters
        ]

    def make(self, letters: Sequence[Letter], publisher: DeadLetterProducer, by: str) -> int:
        """Publish the ready dead letters, record each in `replays`, and return how many.

        After a crash in between, the next call publishes them again: the same event id, so the same event.

        Raises:
            Transient, Fatal: a server is away, or refuses.
        """
        ready = [item for item in letters if item.verdict is ReplayVerdict.READY]
        partitions = publisher.publish([_outgoing(item, by) for item in ready])
        settings = PINNED | self.connection.layout.of_insert(FIRST_SHARD)
        for item, (partition, offset) in zip(ready, partitions, strict=True):
            values = {
                "letter": item.letter_id,
                "topic": partition.topic,
                "partition": partition.number,
                "offset": offset,
                "changed": list(item.changed),
                "by": by,
                "service": SERVICE,
            }
            token = {"insert_deduplication_token": f"{item.letter_id}/{partition.number}/{offset}"}
            self.connection.command(_NOTE, self._names | values, settings=settings | token)
        return len(ready)

    @property
    def _names(self) -> dict[str, Any]:
        return {**self.connection.layout.names("dead_letters", "replays", "events")}

    def _chosen(self, choice: Choice, *, again: bool) -> Iterator[Letter]:
        parameters = {
            "topic": choice.topic,
            "reasons": list(choice.reasons),
            "ids": list(choice.ids),
            "partition": choice.partition,
            "since_ms": choice.since_ms,
            "until_ms": choice.until_ms,
            "limit": choice.limit,
            "again": int(again),
        }
        for row in self.connection.query(_LETTERS, self._names | dict(parameters)):
            own = {name: text for name, text in row["headers"].items() if not name.startswith(LETTER_HEADER)}
            headers = tuple((name, text.encode()) for name, text in own.items())
            key, value = bytes.fromhex(row["key"]), bytes.fromhex(row["value"])
            partition = Partition(row["topic"], row["partition"])
            yield Letter(
                row["letter_id"], Record(partition, row["offset"], row["at_ms"], key, value, headers), row["reason"]
            )

    def _read(self, letter: Letter, repairs: Mapping[str, str]) -> Letter:
        """Decode a dead letter and repair it."""
        value = letter.record.value
        try:
            schema_id = schema_id_of(value)
            schema = self.schema_of(schema_id)
            event = decode(value[FRAME_BYTES:], schema)
            if "eventId" not in event:
                return _judged(letter, ReplayVerdict.UNREADABLE, "its schema has no eventId")
            wanted = {name: typed(schema, name, text) for name, text in repairs.items()}
            changed = {name: value for name, value in wanted.items() if event[name] != value}
            if not changed:
                return replace(letter, event=event)
            event |= changed
            record = letter.record._replace(value=Encoder(schema, schema_id).encode(event))
        except (FrameError, LookupError, ValueError, TypeError, ConnectionError) as error:
            return _judged(letter, ReplayVerdict.UNREADABLE, f"{type(error).__name__}: {error}")
        return replace(letter, record=record, event=event, changed=tuple(sorted(changed)))

    def _present(self, letters: Sequence[Letter]) -> set[str]:
        events = [item.event for item in letters]
        parameters = {
            "types": sorted({str(event.get("eventType", "")) for event in events}),
            "clients": sorted({str(event.get("clientId", "")) for event in events}),
            "ids": sorted({str(event["eventId"]) for event in events}),
        }
        return self._column(_PRESENT, "id", parameters) if events else set()

    def _refused(self, records: Sequence[Record]) -> dict[Record, str]:
        """Return the records that the table would refuse, with the reason."""
        refused: dict[Record, str] = {}
        for partition in {record.partition for record in records}:
            mine = [record for record in records if record.partition == partition]
            by_offset = {record.offset: record for record in mine}
            poison = [*self.rows.screen(mine)]
            while more := self._searched(mine, {item.offset for item in poison}):  # which may be only some
                poison += more
            refused |= {by_offset[item.offset]: f"{item.reason}: {item.error}" for item in poison}
        return refused

    def _searched(self, records: Sequence[Record], known: Collection[int]) -> list[Poison]:
        rest = [record for record in records if record.offset not in known]
        blocks = self.rows.blocks(rest, Origin(""), "")
        return [item for block in blocks for item in self.table.find_poison(block, _NOT_ASKED, rest)]

    def _column(self, query: str, name: str, parameters: Mapping[str, Any]) -> set[str]:
        return {row[name] for row in self.connection.query(query, self._names | dict(parameters))}


def typed(schema: str, name: str, text: str) -> Any:
    """Parse a field's value.

    Raises:
        ValueError: the schema has no such field, or the text is not a value of its type.
    """
    kinds = {field["name"]: field["type"] for field in json.loads(schema)["fields"]}
    if name not in kinds:
        raise ValueError(f"the schema has no field {name!r}")
    kind = kinds[name]
    kind = kind["logicalType"] if isinstance(kind, dict) and kind.get("logicalType") == "uuid" else kind
    kind = kind["type"] if isinstance(kind, dict) else kind
    try:
        return _TYPED[kind](text)
    except (ValueError, RecursionError):
        raise ValueError(f"the field {name} needs {_MEANT[kind]}") from None


def _whole(bits: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch("-?[0-9]{1,19}", text) else None
        if value is None or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError(text)
        return value

    return read


def _strings(text: str) -> dict[str, str]:
    value = json.loads(text)
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(text)
    return value


_TYPED: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str,
    "uuid": lambda text: str(UUID(text)),
    "int": _whole(32),
    "long": _whole(64),
    "map": _strings,
}
_MEANT: Final = {
    "string": "text",
    "uuid": "a UUID",
    "int": "a whole number of 32 bits",
    "long": "a whole number of 64 bits",
    "map": 'a JSON object of strings, such as {"key": "value"}',
}


def _judged(letter: Letter, verdict: ReplayVerdict, detail: str = "") -> Letter:
    return replace(letter, verdict=verdict, detail=detail)


def _outgoing(letter: Letter, by: str) -> Outgoing:
    marks = {"replay_of": letter.letter_id, "replayed_by": by, "replay_changed": ",".join(letter.changed)}
    headers = [*letter.record.headers, *((name, text.encode()) for name, text in marks.items())]
    return Outgoing(letter.record.key, letter.record.value, headers)
