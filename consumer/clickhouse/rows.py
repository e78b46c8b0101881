"""Makes blocks of rows without decoding: each record's Avro body after its coordinates, in one container per schema."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from consumer.clickhouse.containers import NO_TIMESTAMP, coordinates, events_container, frames
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Poison, Record
from consumer.errors import Halt, HaltCode, Reason, Transient
from schemas.codec import (
    FRAME_BYTES,
    LETTER_HEADER,
    Encoder,
    FrameError,
    container,
    container_header,
    frame_of,
    read_schema,
    schema_id_of,
    structure_of,
)
from schemas.event import AT_MAX_MS
from schemas.registry import NewerSchemaError, RegistryAwayError, Schemas, UnknownSchemaError

OWN_SCHEMA_ID: Final = -1
_FORGOTTEN_S: Final = 3600.0
_PROMOTED: Final = (("int", "long"),)
"""Older writers' types that ClickHouse reads too, and ours."""
_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_YEAR_MS: Final = 366 * 86_400_000
_BEFORE_MS: Final = 5 * _YEAR_MS
_BEHIND_MS: Final = _YEAR_MS // 12
_SENT_MIN: Final = 1_577_836_800_000  # 2020
_SENT_MAX: Final = 1_577_836_800_000 + 80 * _YEAR_MS


@dataclass(frozen=True, slots=True)
class _Events:
    """The container of some records of one partition and schema, made each time it is sent."""

    header: bytes
    records: Sequence[Record]

    def __bytes__(self) -> bytes:
        return events_container(self.header, self.records)


class EventRows:
    """Rows of the events table. Threads share it.

    A schema id that neither the registry nor a file of this release knows may be a newer release's, or bytes that only
    look like a frame. Such records wait for `patience_s` from the first one on, so that the worker can be upgraded.
    Then they become dead letters at once, until an hour has passed without any.
    """

    def __init__(self, schemas: Schemas, patience_s: float = 0.0, now_s: Callable[[], float] = monotonic) -> None:
        self._schemas = schemas
        self._patience_s = patience_s
        self._now_s = now_s
        self._doubted_s = self._doubts_since_s = float("-inf")
        self._headers: dict[int, bytes] = {}
        self._good: set[bytes] = set()  # the frames of their records
        event = structure_of(read_schema("event"))
        self._name = _full_name(event)
        self._types = types_of(event)
        fields = json.loads(read_schema("event"))["fields"]
        self._required = [field["name"] for field in fields if "default" not in field]

    def screen(self, records: Sequence[Record]) -> list[Poison]:
        """Return the records without a frame, or with a schema that is unknown or not an event's."""
        if frames(records) <= self._good:
            return []
        poison: list[Poison] = []
        unknown: dict[int, str] = {}  # not remembered: it may be registered later
        for record in records:
            try:
                schema_id = schema_id_of(record.value)
            except FrameError as error:
                poison.append(Poison(record.offset, Reason.FRAME, str(error)))
                continue
            if schema_id not in self._headers and schema_id not in unknown:
                unknown |= self._learn(schema_id)
            if schema_id in unknown:
                poison.append(Poison(record.offset, Reason.UNKNOWN_SCHEMA, unknown[schema_id]))
        return poison

    def blocks(self, records: Sequence[Record], origin: Origin, token: str) -> list[Block]:
        """Return one block per writer schema, in the order of the ids.

        The token always names the schema: a batch of two schemas may have one left when its poison is left out.
        """
        groups: dict[int, Sequence[Record]] = {}
        for frame in frames(records):
            groups[schema_id_of(frame)] = records
        if len(groups) > 1:
            for schema_id in groups:
                groups[schema_id] = [record for record in records if schema_id_of(record.value) == schema_id]
        return [
            Block(schema_id, origin, f"{token}/{schema_id}", _offsets(group), _Events(self._headers[schema_id], group))
            for schema_id, group in sorted(groups.items())
        ]

    def _learn(self, schema_id: int) -> dict[int, str]:
        """Remember a schema's container head; if it can never be read, return the reason by its id.

        Raises:
            Transient: the schema can't be looked up now.
            Halt: it may be a newer release's.
        """
        try:
            text = self._schemas.schema_of(schema_id)
            written = structure_of(text)
        except RegistryAwayError as error:
            raise Transient(str(error)) from error
        except NewerSchemaError as error:
            return {schema_id: self._doubted(error)}
        except (UnknownSchemaError, ValueError) as error:
            return {schema_id: f"schema {schema_id}: {error}"}
        types = types_of(written)
        if newer := self._newer(written, types):
            why = f"schema {schema_id} is newer than this worker, which lacks {newer}: upgrade it"
            raise Halt(why, HaltCode.NEWER)
        if fault := misfit(types, self._types, self._required):
            return {schema_id: f"schema {schema_id} ({_full_name(written)}) is not an event's: {fault}"}
        self._headers[schema_id] = container_header(text)
        self._good.add(frame_of(schema_id))
        return {}

    def _newer(self, written: Mapping[str, Any], types: Mapping[str, Any]) -> list[str]:
        """Return the fields of a schema with our name that this release lacks, if it differs in nothing else."""
        if _full_name(written) != self._name or not set(self._required) <= types.keys():
            return []
        strange = {name for name, kind in types.items() if not self._is_known(name, kind)}
        newer = sorted(name for name in strange if _is_newer(types[name], self._types.get(name)))
        return newer if strange == set(newer) else []

    def _is_known(self, name: str, kind: Any) -> bool:
        return is_known(kind, self._types.get(name), is_required=name in self._required)

    def _doubted(self, error: NewerSchemaError) -> str:
        """Return why a record of an unknown id is a dead letter, once the waiting time is over.

        Raises:
            Halt: the waiting time is not over.
        """
        now_s = self._now_s()
        if now_s - self._doubted_s > _FORGOTTEN_S:
            self._doubts_since_s = now_s
        self._doubted_s = now_s
        left_s = self._doubts_since_s + self._patience_s - now_s
        if left_s > 0:
            raise Halt(f"{error}; in {left_s:.0f} s its records become dead letters", HaltCode.NEWER)
        return f"{error}"


def _full_name(record: Mapping[str, Any]) -> str:
    return ".".join(filter(None, (str(record.get("namespace", "")), str(record.get("name", "")))))


def types_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of each field of a record schema, {} for another schema."""
    try:
        return {field["name"]: field["type"] for field in record["fields"]}
    except (TypeError, KeyError):
        return {}


def misfit(types: Mapping[str, Any], ours: Mapping[str, Any], required: Collection[str]) -> str | None:
    """Return why a writer's fields can't fill our columns without loss, or None.

    ClickHouse would fill in a missing required field: all events without an id would get the same one.
    """
    if missing := sorted(set(required) - types.keys()):
        return f"without {', '.join(missing)}"
    if without := sorted(name for name in types if name not in ours):
        return f"no column for {', '.join(without)}"
    other = [name for name, kind in types.items() if not is_known(kind, ours[name], is_required=name in required)]
    return f"another type of {', '.join(sorted(other))}" if other else None


def is_known(kind: Any, ours: Any, *, is_required: bool) -> bool:
    """Tell whether ClickHouse reads a writer's type into our column without loss; null becomes an empty text."""
    if isinstance(kind, list) and len(kind) == 2 and "null" in kind and ours == "string" and not is_required:  # noqa: PLR2004  (null and text)
        return "string" in kind
    return kind == ours or (kind, ours) in _PROMOTED


def _is_newer(kind: Any, ours: Any) -> bool:
    """Tell whether a newer release may have this type in place of ours: a new field, a wider type, a union."""
    return ours is None or (ours, kind) in _PROMOTED or (isinstance(kind, list) and ours in kind)


@dataclass(frozen=True, slots=True)
class _Letters:
    """The container of some records of the dead-letter topic, made each time it is sent."""

    header: bytes
    encoder: Encoder
    records: Sequence[Record]

    def __bytes__(self) -> bytes:
        rows = (coordinates(one) + self.encoder.encode(letter_of(one))[FRAME_BYTES:] for one in self.records)
        return container(self.header, rows)


class DeadLetterRows:
    """Rows of the table dead_letters, from the dead-letter topic: the raw bytes, and headers with the reason."""

    def __init__(self) -> None:
        schema = read_schema("dead_letter")
        self._encoder = Encoder(schema, 0)
        self._header = container_header(schema)

    def screen(self, records: Sequence[Record]) -> list[Poison]:  # noqa: ARG002  (every record is a dead letter)
        """Return none: everything on the dead-letter topic is kept."""
        return []

    def blocks(self, records: Sequence[Record], origin: Origin, token: str) -> list[Block]:
        """Return one block with all records."""
        if not records:
            return []
        payload = _Letters(self._header, self._encoder, records)
        return [Block(OWN_SCHEMA_ID, origin, f"{token}/{OWN_SCHEMA_ID}", _offsets(records), payload)]


def letter_of(record: Record) -> Mapping[str, Any]:
    """Return a record of the dead-letter topic as fields of dead_letter.avsc; missing ones get their default."""
    headers = dict(reversed(record.headers))  # the first of a name wins: ours come before the record's own
    own = {name: value for name, value in headers.items() if not name.startswith(LETTER_HEADER)}
    ours = {name.removeprefix(LETTER_HEADER): value for name, value in headers.items() if name not in own}
    texts = {name: value.decode("utf-8", "replace") for name, value in ours.items() if name != "origin_key"}
    letter = {
        "letterId": record.key.decode("utf-8", "replace"),
        "originTopic": texts.pop("origin_topic", ""),
        "originTopicId": texts.pop("origin_topic_id", ""),
        "originPartition": _integer(texts.pop("origin_partition", ""), -1, _INT_MAX),
        "originOffset": _integer(texts.pop("origin_offset", ""), -1),
        "originLeaderEpoch": _integer(texts.pop("origin_leader_epoch", ""), -1, _INT_MAX),
        "originReading": _integer(texts.pop("origin_reading", ""), 0, _INT_MAX),
        "originAt": _near(_integer(texts.pop("origin_at", ""), record.timestamp_ms, AT_MAX_MS), record.timestamp_ms),
        "schemaId": _integer(texts.pop("schema_id", ""), -1),
        "reason": texts.pop("reason", ""),
        "error": texts.pop("error", ""),
        "service": texts.pop("service", ""),
        "key": ours.get("origin_key", b""),
        "value": record.value,
    }
    more = {LETTER_HEADER + name: text for name, text in texts.items()}
    return letter | {"headers": {name: value.decode("utf-8", "replace") for name, value in own.items()} | more}


def _near(at_ms: int, sent_ms: int) -> int:
    """Return a refused record's timestamp, or its dead letter's when they are years apart: producers' clocks vary.

    The table is partitioned by month, and an insert may touch a limited number of partitions. The dead letter's
    timestamp is from a broker's clock or ours, and the same each time it is read.
    """
    sent_ms = sent_ms if _SENT_MIN <= sent_ms <= _SENT_MAX else NO_TIMESTAMP
    at_ms = max(at_ms, NO_TIMESTAMP)
    return at_ms if sent_ms - _BEFORE_MS <= at_ms <= sent_ms + _BEHIND_MS else sent_ms


def _offsets(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.offset for record in records)


def _integer(text: str, default: int, largest: int = _LONG_MAX) -> int:
    """Return a header's number, or the default when its column can't hold it: anybody may write to the topic."""
    try:
        number = int(text)
    except ValueError:
        return default
    return number if 0 <= number <= largest else default
