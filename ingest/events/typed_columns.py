"""What the table's columns for documented members of `properties` would hold.

ClickHouse fills these columns itself, from `properties_text` and `url` (schemas/clickhouse/0001_events.sql). This says
the same of values that fit their documented type, for dry runs. Of a value that does not fit it says nothing: what
ClickHouse makes of it depends on how it writes numbers and objects as text. tests/integration/test_accepted_events.py
compares both.
"""

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ingest.events.fields import fits, read_boolean, read_integer
from schemas.event import Property, read_catalogue

_TYPED: Final = {name: entry for name, entry in read_catalogue().properties.items() if entry.type != "any"}
_EMPTY: Final[dict[str, Any]] = {"string": "", "strings": []}
_UTM: Final = {
    name: (f"utm{word.capitalize()}", name, f"utm.{word}")
    for name in _TYPED
    if (word := name.removeprefix("utm_")) != name
}
SPELLINGS: Final = frozenset(spelling for spellings in _UTM.values() for spelling in spellings)
"""The names under which the table finds campaign members; the column is that of `utm_…`."""
_MALFORMED: Final = re.compile("%(?![0-9A-Fa-f]{2})")  # what stays of it differs from Python's
_PLACES: Final = Decimal("0.0001")
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "decimal": lambda value: Decimal(str(value)).quantize(_PLACES, ROUND_HALF_UP),
    "number": float,
    "integer": read_integer,
    "boolean": read_boolean,
}


def typed_columns(
    properties: Mapping[str, Any], url: str, promoted: Mapping[str, Property] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the values by the members' names; without those that only ClickHouse can tell.

    `promoted` are the members that an operator has given columns.
    """
    values: dict[str, Any] = {}
    for name, documented in (_TYPED | dict(promoted)).items():
        sent = _utm_members(name, properties, url) if name in _UTM else [properties.get(name)]
        if sent is not None and all(fits(value, documented) for value in sent):
            values[name] = _column(sent, name, documented)
    return values


def _column(sent: list[Any], name: str, documented: Property) -> Any:
    """Return the first value that is not empty."""
    empty = _EMPTY.get(documented.type)
    value = next((value for value in sent if value is not None and value != empty), empty)
    if name == "currency":
        return str(value).encode().upper().decode()  # of bytes only A to Z
    return value if value is None else _READ.get(documented.type, _same)(value)


def _same(value: Any) -> Any:
    return value


def _utm_members(name: str, properties: Mapping[str, Any], url: str) -> list[Any] | None:
    """Return where a utm column looks, in order; None when only ClickHouse can decode what the url says."""
    sent = _parameter_of(url, name)
    if _MALFORMED.search(sent):
        return None
    try:
        decoded = unquote_to_bytes(sent.replace("+", " ")).decode()
    except UnicodeDecodeError:
        return None
    return [*(properties.get(spelling) for spelling in _UTM[name]), decoded]


def _parameter_of(url: str, name: str) -> str:
    """Return a parameter of a url as the table finds it: the first in the query, else in the fragment; "" for none.

    Only the first `?` begins the query, be it in the fragment, as in a path behind `#`; a later one is part of a value.
    """
    query = url.partition("?")[2].partition("#")[0].replace("?", "%3F")
    text = f"?{query}#{url.partition('#')[2]}"
    at = 0
    while (at := text.find(f"{name}=", at + 1)) >= 0:
        if text[at - 1] in "?#&":
            return text[at + len(name) + 1 :].partition("&")[0].partition("#")[0]
    return ""
