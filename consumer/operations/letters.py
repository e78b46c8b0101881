"""Reads the dead letters of people: each holds an event, as Avro from the topic or as JSON that the ingress refused."""

import base64
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.streams import lines, text_bytes
from consumer.errors import Transient
from consumer.operations.people import Ids, Kind, ids_of
from schemas.codec import FRAME_BYTES, FrameError, decode, schema_id_of, varint
from schemas.registry import RegistryAwayError

_LETTERS: Final = """
SELECT _topic, _topic_id, _partition, _reading, _offset, letter_id, toString(reason) AS reason, error,
    toString(origin_at) AS refused_at, toUnixTimestamp64Milli(origin_at) AS at_ms,
    base64Encode(key) AS key, base64Encode(value) AS value, headers
FROM {of_dead_letters:Identifier} WHERE value != '' AND origin_at <= fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')
"""
_LONG: Final = 8  # characters: a shorter id may stand in other values by chance
_NAMES: Final = ("userId", "anonId", "eventId")
# A number as JSON has it, and of no more digits than int takes.
_NUMBER: Final = re.compile(
    rb'"(?:userId|anonId)"\s*+:\s*+(-?+(?:0|[1-9]\d{0,40}+)(?:\.\d{1,40}+)?(?:[eE][+-]?+\d{1,3}+)?)(?![\w.])'
)

Wanted = Callable[[Kind, str], int]
"""Takes an id, and returns until when what names it is meant, in Unix ms; -1 when it is nobody's."""


@dataclass(frozen=True, slots=True)
class HeldLetter:
    """A dead letter, and the event in it.

    Attributes:
        row: its columns.
        event: the event; None when its bytes can't be read.
        value: the refused bytes.
    """

    row: Mapping[str, Any]
    event: Mapping[str, Any] | None
    value: bytes

    @property
    def place(self) -> tuple[str, str, int, int, int]:
        """Topic, its ID, partition, reading and offset of the dead letter."""
        row = self.row
        return row["_topic"], row["_topic_id"], row["_partition"], row["_reading"], row["_offset"]

    @property
    def ids(self) -> Ids | None:
        """The ids that its event names; None when its bytes can't be read."""
        return None if self.event is None else ids_of(self.event)

    @property
    def is_clear(self) -> bool:
        """Whether it tells whose it is: its bytes can be read, and no id is an object or an array."""
        return self.event is not None and not any(isinstance(self.event.get(name), dict | list) for name in _NAMES)

    def is_wanted(self, wanted: Wanted) -> bool:
        """Tell whether its event names a person."""
        ids = self.ids
        return ids is not None and any(wanted(kind, value) >= self.row["at_ms"] for kind, value in ids.named())

    def holds(self, values: Collection[str]) -> bool:
        """Tell whether bytes that don't tell whose they are hold one of these ids, or it is the record's key."""
        if base64.b64decode(self.row["key"]).decode("utf-8", "surrogateescape") in values:
            return True
        if self.is_clear:
            return False
        numbers = {ids_of({"userId": json.loads(number)}).user_id for number in _NUMBER.findall(self.value)}
        return not numbers.isdisjoint(values) or any(form in self.value for value in values for form in _forms(value))


def _forms(value: str) -> Iterator[bytes]:
    """Yield how an id stands in Avro and in JSON that are cut or broken; JSON may escape all but ASCII."""
    text = text_bytes(value)
    yield varint(len(text)) + text
    yield b'"' + text + b'"'
    yield json.dumps(value).encode()
    yield text_bytes(json.dumps(value, ensure_ascii=False))
    if len(text) >= _LONG:
        yield text


def letters(connection: Connection, schema_of: Callable[[int], str], until_ms: int, table: str) -> Iterator[HeldLetter]:
    """Yield every dead letter of a table that was refused until then and has content.

    Raises:
        Transient: ClickHouse or the registry is away.
        Fatal: as errors.py says.
    """
    for row in lines(connection, _LETTERS, {"of_dead_letters": table, "until_ms": until_ms}):
        value = base64.b64decode(row["value"])
        yield HeldLetter(row, _event(value, schema_of), value)


def _event(value: bytes, schema_of: Callable[[int], str]) -> Mapping[str, Any] | None:
    try:
        if value[:1] == b"\0":
            event = decode(value[FRAME_BYTES:], schema_of(schema_id_of(value)))
        else:
            event = json.loads(value)
    except RegistryAwayError as error:
        raise Transient(str(error)) from error
    except (FrameError, LookupError, ValueError, TypeError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
