r"""Compiles the schema of a record into a Python function that writes such records as Avro, byte for byte as fastavro.

fastavro walks the schema for every record. Here the walk is done once: `source_of` writes the text of two functions,
and Python compiles it. Of a record with a text, a number, a map and another text, of which the map is `shared` by all
records of a call, this is the whole text:

    def share(record):
        if type(record) is not dict:
            raise TypeError
        return (
            "".join((pairs(record["headers"]),)),
        )

    def write(record, frame, shared_0):
        if type(record) is not dict:
            raise TypeError
        texts = pick_own(record)
        if not "".join(texts).isascii():
            texts = map(utf8, texts)
        v_eventId, v_url, = texts
        return "".join((
            frame,
            sizes[len(v_eventId)], v_eventId,
            number(record["active"]),
            shared_0,
            sizes[len(v_url)], v_url,
        )).encode("latin-1")

A record's bytes are put together as a text of one character per byte, which `latin-1` turns into bytes in one copy. An
ASCII text is its own UTF-8; where one is not, `utf8` replaces each text by the characters of its bytes. A number that
is shared goes through `shared_number`, which remembers the last ones.

The functions take texts of up to 8 KiB, integers of 64 bits, bytes and maps of texts, and no missing field. They raise
one of UNUSUAL for anything else, and the caller asks fastavro: its bytes count, or its error. So nothing here decides
what a strange value means. A field of another type is written by fastavro too, alone.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import fastavro

UNUSUAL: Final = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What the generated functions raise for a record that is left to fastavro."""

_INT64_MAX: Final = 2**63 - 1
_BITS: Final = 14  # of a number, per step: two bytes of seven
_LOW: Final = (1 << _BITS) - 1
_GO_ON: Final = tuple(chr(number & 0x7F | 0x80) + chr(number >> 7 | 0x80) for number in range(1 << _BITS))
_LAST: Final = tuple(
    chr(number) if number < 1 << 7 else chr(number & 0x7F | 0x80) + chr(number >> 7) for number in range(1 << _BITS)
)
_SIZES: Final = list(_LAST[::2])  # of up to 8191 bytes; a size is written zigzag, as twice itself
# fastavro takes any name. These can't be anything but names in a Python text.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_STRINGS: Final = {"type": "map", "values": "string"}
_SHARED_CACHED: Final = 64


@dataclass(frozen=True, slots=True)
class Compiled:
    """The functions of one schema, and the text that they were compiled from.

    Attributes:
        layout: how a record is put together behind its frame: of each field that is not shared, how it is written
            ("text", "number", "bytes", "strings" or "other") and its name; ("shared", "") for each run of shared ones.
        share: the pieces that a record has in common with others, from one of them: one for each of these runs.
        write: a record's bytes, from the record, its frame and the pieces.
    """

    layout: tuple[tuple[str, str], ...]
    source: str
    share: Callable[[Mapping[str, Any]], tuple[str, ...]]
    write: Callable[..., bytes]


def compile_schema(parsed: Any, shared: Sequence[str] = ()) -> Compiled | None:
    """Compile a schema that fastavro has parsed; None when it is not one of a record, or has names of another kind.

    Args:
        parsed: from `fastavro.parse_schema`.
        shared: the fields that are equal in all records of a call.
    """
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        return None
    names = [field["name"] for field in parsed["fields"]]
    if not all(map(_NAME.fullmatch, names)):
        return None
    texts = [field["name"] for field in parsed["fields"] if _kind(field) == "text"]
    helpers: dict[str, Any] = {
        "sizes": _SIZES,
        "number": number_text,
        "shared_number": lru_cache(_SHARED_CACHED)(number_text),  # many requests come in one millisecond
        "octets": _octets,
        "pairs": _pairs,
        "utf8": _utf8,
        "pick_own": _picker([name for name in texts if name not in shared]),
        "pick_shared": _picker([name for name in texts if name in shared]),
    }
    for field in parsed["fields"]:
        if _kind(field) == "other":
            helpers[f"write_{field['name']}"] = _writer({**parsed, "fields": [field]}, field["name"])
    source = source_of(parsed["fields"], shared)
    exec(source, helpers)  # noqa: S102  (our own text: of a schema only names are in it, and _NAME has seen them)
    return Compiled(_layout(parsed["fields"], shared), source, helpers["share"], helpers["write"])


def _layout(fields: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pieces: list[tuple[str, str]] = []
    for is_shared, group in groupby(fields, lambda field: field["name"] in shared):
        pieces += [("shared", "")] if is_shared else [(_kind(field), field["name"]) for field in group]
    return tuple(pieces)


def source_of(fields: Sequence[Mapping[str, Any]], shared: Sequence[str]) -> str:
    """Return the text of `share` and `write` for a record's fields."""
    own: list[str] = ["frame,"]
    runs: list[list[str]] = []  # of shared fields that stand side by side
    was_shared = False
    for field in fields:
        is_shared = field["name"] in shared
        if is_shared and not was_shared:
            own.append(f"shared_{len(runs)},")
            runs.append([])
        kind = f"shared_{_kind(field)}" if is_shared else _kind(field)
        (runs[-1] if is_shared else own).append(_PIECES.get(kind, _PIECES[_kind(field)]).format(name=field["name"]))
        was_shared = is_shared
    lines = [
        "def share(record):",
        *_unpacking([field for field in fields if field["name"] in shared], "pick_shared"),
        "    return (",
        *(f'        "".join(({" ".join(run)})),' for run in runs),
        "    )",
        "",
        f"def write(record, frame{''.join(f', shared_{index}' for index in range(len(runs)))}):",
        *_unpacking([field for field in fields if field["name"] not in shared], "pick_own"),
        '    return "".join((',
        *(f"        {piece}" for piece in own),
        '    )).encode("latin-1")',
    ]
    return "\n".join(lines) + "\n"


_PIECES: Final = {
    "text": "sizes[len(v_{name})], v_{name},",
    "number": 'number(record["{name}"]),',
    "shared_number": 'shared_number(record["{name}"]),',
    "bytes": 'octets(record["{name}"]),',
    "strings": 'pairs(record["{name}"]),',
    "other": 'write_{name}(record["{name}"]),',
}


def _unpacking(fields: Sequence[Mapping[str, Any]], pick: str) -> list[str]:
    """Return the lines that put texts into variables, with one character per byte."""
    # A defaultdict would invent what is missing.
    lines = ["    if type(record) is not dict:", "        raise TypeError"]
    variables = " ".join(f"v_{field['name']}," for field in fields if _kind(field) == "text")
    if variables:
        lines += [
            f"    texts = {pick}(record)",
            '    if not "".join(texts).isascii():',
            "        texts = map(utf8, texts)",
            f"    {variables} = texts",
        ]
    return lines


def _kind(field: Mapping[str, Any]) -> str:
    """Return how a field is written: `other` means by fastavro: a type that our schemas do not use."""
    avro = field["type"]
    if isinstance(avro, dict) and avro.keys() <= {"type", "logicalType"}:
        avro = avro["type"]  # of a logical type only what else it takes is special, like a datetime: that is unusual
    if avro == "string":
        return "text"
    if avro in ("int", "long"):
        return "number"
    if avro == "bytes":
        return "bytes"
    return "strings" if avro == _STRINGS else "other"


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda record: tuple(record[name] for name in names)


def number_text(value: int) -> str:
    """Return an int or a long in Avro's zigzag variable-length form, one character per byte."""
    if not -_INT64_MAX <= value <= _INT64_MAX:
        raise OverflowError
    left = value << 1 if value >= 0 else ~(value << 1)
    if left <= _LOW:
        return _LAST[left]
    text = ""
    while left > _LOW:
        text += _GO_ON[left & _LOW]
        left >>= _BITS
    return text + _LAST[left]


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode().decode("latin-1")


def _octets(value: bytes) -> str:
    return number_text(len(value)) + value.decode("latin-1")


def _pairs(value: Any) -> str:
    if type(value) is not dict:
        raise TypeError
    if not value:
        return "\0"
    parts = [number_text(len(value))]
    for name, text in value.items():
        of_name, of_text = _utf8(name), _utf8(text)
        parts += (_SIZES[len(of_name)], of_name, _SIZES[len(of_text)], of_text)
    return "".join((*parts, "\0"))


def _writer(parsed: dict[str, Any], name: str) -> Callable[[Any], str]:
    """Return what writes one field as fastavro does, as a record of this field alone."""

    def write(value: Any) -> str:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, {name: value})
        return out.getvalue().decode("latin-1")

    return write
