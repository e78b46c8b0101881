"""Avro on the wire: Confluent framing, and containers that the engine reads without our decoding them.

A framed value is magic 0, the writer's schema id (4 bytes, big-endian) and the Avro body:
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
A container is an Avro object container file with one block per row: https://avro.apache.org/docs/1.12.0/specification/
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import fastavro

from schemas.compiler import UNUSUAL, Compiled, compile_schema

MAGIC: Final = 0
FRAME_BYTES: Final = 5
_LOW_BITS: Final = 0x7F
_ONE: Final = b"\x02"  # a block's count, as a zigzag integer
SYNC: Final = hashlib.md5(b"headrace", usedforsecurity=False).digest()
"""Ends each block of a container, and its head."""

LETTER_HEADER: Final = "headrace."
"""Begins the name of each header that says why a record is a dead letter; the record's own headers keep theirs."""
COORDINATES: Final = (
    {"name": "_partition", "type": "int"},
    {"name": "_offset", "type": "long"},
    {"name": "_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
)
"""What stands before each record in a container: its place in the log, and Kafka's timestamp (ms)."""


_NAMES: Final = frozenset({"name", "namespace", "symbols", "logicalType", "size", "precision", "scale"})
_STRUCTURE: Final = _NAMES | {"type", "fields", "items", "values"}


class FrameError(ValueError):
    """A record's value does not start with a frame."""


def read_schema(name: str) -> str:
    """Return the text of `schemas/<name>.avsc`."""
    return files("schemas").joinpath(f"{name}.avsc").read_text(encoding="utf-8")


def local_schema_id(schema: str) -> int:
    """Derive a schema's id from its content, so that services without a registry agree.

    The ids lie in [2**30, 2**31): a registry counts from 1, so the two kinds never meet. Documentation strings and
    layout do not change the id.
    """
    text = json.dumps(_without_docs(json.loads(schema)), sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x3FFF_FFFF | 0x4000_0000


def structure_of(schema: str) -> dict[str, Any]:
    """Return a schema without what does not change its bytes: texts, defaults, aliases, properties of one language.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        bare = _bare(json.loads(schema))
    except RecursionError as error:
        raise ValueError("the schema is nested too deep") from error
    if isinstance(bare, dict):
        return bare
    raise ValueError("the schema is not one of a record")


def _bare(node: Any) -> Any:
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value if key in _NAMES else _bare(value) for key, value in node.items() if key in _STRUCTURE}
    return kept["type"] if kept.keys() == {"type"} else kept


def is_local(schema_id: int) -> bool:
    """Tell whether an id is one that `local_schema_id` may give."""
    return schema_id >> 30 == 1


def _without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    if isinstance(node, list):
        return [_without_docs(item) for item in node]
    return node


class Encoder:
    """Encodes records of one schema as framed values. Immutable, so threads share it."""

    def __init__(self, schema: str, schema_id: int, shared: tuple[str, ...] = ()) -> None:
        self._source = (schema, schema_id)
        self._parsed, self._compiled = _compiled(schema, shared)
        self._frame = frame_of(schema_id)
        self._frame_text = self._frame.decode("latin-1")

    def sharing(self, shared: tuple[str, ...]) -> "Encoder":
        """Return an encoder whose `encode_all` takes these fields from the first record, for all of them."""
        return Encoder(*self._source, shared)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """Return the frame and the record's Avro body; a missing field takes the schema's default.

        Raises:
            ValueError, TypeError, OverflowError, AttributeError: as fastavro does, for what its schema does not take.
        """
        return self.encode_all((record,))[0]

    def encode_all(self, records: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Return what `encode` does of each record; what they share is encoded once."""
        return list(map(self.writer(records[0]), records)) if records else []

    def writer(self, common: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bytes]:
        """Return a function that does what `encode` does, but takes the shared fields from `common` for each record."""
        if self._compiled is None:
            return self._encode_unusual
        write, frame = self._compiled.write, self._frame_text
        try:
            shared = self._compiled.share(common)
        except UNUSUAL:
            return self._encode_unusual

        def encode(record: Mapping[str, Any]) -> bytes:
            try:
                return write(record, frame, *shared)
            except UNUSUAL:
                return self._encode_unusual(record)

        return encode

    @property
    def layout(self) -> tuple[tuple[str, str], ...]:
        """How a value is put together behind its frame (`Compiled.layout`); empty when only fastavro can write it."""
        return self._compiled.layout if self._compiled else ()

    @property
    def frame(self) -> bytes:
        """What every value begins with."""
        return self._frame

    def shared_bytes(self, common: Mapping[str, Any]) -> list[bytes]:
        """Return the bytes of each run of shared fields; raises one of UNUSUAL where only fastavro can write them."""
        return [piece.encode("latin-1") for piece in self._compiled.share(common)] if self._compiled else []

    def _encode_unusual(self, record: Mapping[str, Any]) -> bytes:
        out = io.BytesIO()
        out.write(self._frame)
        fastavro.schemaless_writer(out, self._parsed, record)
        return out.getvalue()


@lru_cache(maxsize=64)  # a replay makes an encoder for each record, and meets the schemas of a few writers
def _compiled(schema: str, shared: tuple[str, ...]) -> tuple[Any, Compiled | None]:
    parsed = fastavro.parse_schema(json.loads(schema))
    return parsed, compile_schema(parsed, shared)


def frame_of(schema_id: int) -> bytes:
    """Return what a framed value of a schema begins with."""
    return bytes((MAGIC,)) + schema_id.to_bytes(4, "big")


def schema_id_of(value: bytes | None) -> int:
    """Return the schema id of a framed value.

    Raises:
        FrameError: the value is absent, shorter than a frame, or has another magic byte.
    """
    if value is None or len(value) < FRAME_BYTES:
        raise FrameError(f"no frame: the value has {0 if value is None else len(value)} bytes")
    if value[0] != MAGIC:
        raise FrameError(f"no frame: the first byte is {value[0]}, not {MAGIC}")
    return int.from_bytes(value[1:FRAME_BYTES], "big")


def decode(body: bytes, schema: str) -> dict[str, Any]:
    """Decode one Avro body written with `schema`.

    Raises:
        ValueError: the body is truncated, does not fit, or goes on after the record.
    """
    source = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(source, fastavro.parse_schema(json.loads(schema)), None)
    except (EOFError, IndexError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a record of this schema: {type(error).__name__}") from error
    if source.tell() != len(body):
        raise ValueError(f"{len(body) - source.tell()} bytes after the record")
    return dict(record) if isinstance(record, dict) else {}


def varint(number: int) -> bytes:
    """Return Avro's zigzag variable-length form of a 64-bit integer."""
    return _unsigned((number << 1) ^ (number >> 63))


def _unsigned(number: int) -> bytes:
    out = bytearray()
    while number > _LOW_BITS:
        out.append(number & _LOW_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_above_64 = lru_cache(maxsize=16_384)(_unsigned)
_FIRST_BYTES: Final = tuple(bytes((number << 1 | 0x80,)) for number in range(64))


def near_varint(number: int) -> bytes:
    """Return `varint` of a number that is at least 0 and near to other ones, in a third of the time.

    Of 64 numbers in a row, only the first byte differs.
    """
    return _FIRST_BYTES[number & 63] + _above_64(number >> 6) if number > 63 else varint(number)  # noqa: PLR2004  (six bits)


def container_header(schema: str) -> bytes:
    """Return the head of a container whose records are coordinates followed by records of `schema`.

    Avro records have no framing: the concatenation is a record of the concatenated fields. Defaults are
    left out: a reader needs none of a writer, and refuses the whole container for one of the wrong type.
    """
    record = structure_of(schema)
    record["fields"] = [*COORDINATES, *record["fields"]]
    meta = {b"avro.schema": json.dumps(record).encode(), b"avro.codec": b"null"}
    pairs = b"".join(varint(len(key)) + key + varint(len(value)) + value for key, value in meta.items())
    return b"Obj\x01" + varint(len(meta)) + pairs + varint(0) + SYNC


def container(header: bytes, rows: Iterable[bytes]) -> bytes:
    """Return a container of encoded rows behind a header from `container_header`, each in a separate block.

    A reader ends a block where its length says: a row that is too short is refused, and what a row has behind its end
    is dropped with it. In one block of all, either would shift the rows behind it, and one could pass for two.
    """
    parts = [header]
    for row in rows:
        parts += (_ONE, near_varint(len(row)), row, SYNC)
    return b"".join(parts)
