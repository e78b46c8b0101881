"""The event in memory, and the catalogue that says what clients may send.

`Event` has one key per field of event.avsc, under the same names and in the same order; the table's columns are the
same names in snake_case (a contract test compares the three).
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypedDict, TypeVar

import msgspec


class Event(TypedDict):
    """One complete event: every field is present; absent strings are "", an absent `active` is -1.

    UUIDs are canonical strings; `*At` are milliseconds since the epoch, UTC; `properties` is the text of one JSON
    object.
    """

    eventId: str
    pingId: str
    clientId: str
    anonId: str
    userId: str
    eventType: str
    eventLocation: str
    clickAction: str
    contentId: str
    url: str
    pageType: str
    deviceType: str
    userAgent: str
    osName: str
    osVersion: str
    mobileModel: str
    browser: str
    userType: str
    userSourceData: str
    accessType: str
    paywallId: str
    paywallType: str
    paywallDisplayType: str
    popupId: str
    active: int
    receivedAt: int
    occurredAt: int
    ip: str
    environment: str
    traceId: str
    headers: dict[str, str]
    properties: str


AT_MAX_MS: Final = 10_413_705_600_000
"""The latest time that the table can hold, 2299-12-31; the earliest is 0. See clickhouse/0001_events.sql."""
COLLECTOR_FIELDS: Final = ("receivedAt", "occurredAt", "ip", "environment", "traceId", "headers", "properties")
"""Set by the collector; a client's member with such a name is kept in `properties`."""

REQUEST_FIELDS: Final = ("receivedAt", "ip", "environment", "traceId", "headers")
"""Those that are equal in all events of a request."""

CLIENT_COLUMNS: Final = tuple(name for name in Event.__annotations__ if name not in COLLECTOR_FIELDS)
"""The fields with a column that a client may fill."""

_COLUMN_TYPES: Final = ("string", "id", "uuid", "int8")
ColumnType = Literal["string", "integer", "number", "boolean", "decimal", "strings"]
"""What `python -m consumer promote` takes."""
Entry = TypeVar("Entry")


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event type: when clients send it, and the fields that belong to it."""

    sent_when: str
    fields: tuple[str, ...] = ()


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field that clients send; an event with a value of another type is refused.

    `id` is a string that may be sent as a number. `known` lists values for readers; others are accepted too. `promoted`
    is the type with which an operator has given it a column, for dry runs.
    """

    type: Literal["string", "id", "uuid", "int8", "integer", "number", "boolean"]
    doc: str
    length_min: int = 0
    length_max: int | None = None
    known: tuple[str, ...] = ()
    promoted: ColumnType | None = None


class Property(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One documented member of `properties`: any value is kept as sent; one of another type gets a warning.

    One with a type has a column in the table, which stays empty for a value that does not fit. One of an operator's
    file has one if it is `promoted`, with that type.
    """

    doc: str
    type: Literal["any", "string", "integer", "number", "boolean", "decimal", "strings"] = "any"
    promoted: ColumnType | None = None


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients may send: event types and fields by name, and the documented members of `properties`."""

    types: dict[str, EventType]
    fields: dict[str, Field]
    properties: dict[str, Property]

    @property
    def promoted(self) -> dict[str, Property]:
        """The members of properties that an operator has given a column, by name; with its type."""
        members: dict[str, Field | Property] = {**self.fields, **self.properties}
        return {name: Property(entry.doc, entry.promoted) for name, entry in members.items() if entry.promoted}


def read_catalogue(text: str | None = None) -> Catalogue:
    """Read a catalogue, by default the project's.

    Raises:
        ValueError: the text is not TOML, has a type in lower case or a field without a column, or another mistake.
    """
    if text is None:
        text = files("schemas").joinpath("catalogue.toml").read_text(encoding="utf-8")
    catalogue = _checked(_parse(text))
    for name, field in catalogue.fields.items():
        if name not in CLIENT_COLUMNS or field.type not in _COLUMN_TYPES:
            raise ValueError(f"field {name!r} has no column that a client may fill")
    return catalogue


def open_catalogue(own_path: str = "") -> Catalogue:
    """Return the project's catalogue, extended by an operator's file if its path is given.

    An operator's fields have no columns: they are checked like others and kept in `properties`.

    Raises:
        ValueError: the file can't be read, is not a catalogue, or changes a field; the message begins with its path.
    """
    base = read_catalogue()
    if not own_path:
        return base
    try:
        own = _parse(Path(own_path).read_text(encoding="utf-8"))
        taken = own.fields.keys() & {*base.fields, *COLLECTOR_FIELDS, "timestamp"}
        if taken:
            raise ValueError(f"[fields.{min(taken)}]: the name is in use")  # noqa: TRY301  (the path is added below)
        documented = {name: value for name, value in base.properties.items() if name not in own.fields}
        return _checked(Catalogue(base.types | own.types, base.fields | own.fields, documented | own.properties))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{own_path}: {error}") from error


def _parse(text: str) -> Catalogue:
    sections = tomllib.loads(text)
    for name, section in sections.items():
        if name not in Catalogue.__struct_fields__ or not isinstance(section, dict):
            raise ValueError(f"[{name}]: the sections are {', '.join(Catalogue.__struct_fields__)}")
    return Catalogue(
        {name: _entry(f"types.{name}", value, EventType) for name, value in sections.get("types", {}).items()},
        {name: _entry(f"fields.{name}", value, Field) for name, value in sections.get("fields", {}).items()},
        {
            name: _entry(f"properties.{name}", {"doc": value} if isinstance(value, str) else value, Property)
            for name, value in sections.get("properties", {}).items()
        },
    )


def _entry(where: str, value: object, kind: type[Entry]) -> Entry:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"[{where}]: {error}") from error


def _checked(catalogue: Catalogue) -> Catalogue:
    for name, kind in catalogue.types.items():
        if not name or name != name.upper():
            raise ValueError(f"[types.{name}]: an event type is written in upper case")
        missing = [field for field in kind.fields if field not in catalogue.fields]
        if missing:
            raise ValueError(f"[types.{name}]: there is no field {missing[0]!r}")
    for name, field in catalogue.fields.items():
        if field.length_max is not None and not 1 <= max(field.length_min, 1) <= field.length_max:
            raise ValueError(f"[fields.{name}]: length_min and length_max leave no length")
        if (field.length_min or field.length_max is not None) and field.type not in ("string", "id"):
            raise ValueError(f"[fields.{name}]: only a string or an id has a length")
    both = catalogue.fields.keys() & catalogue.properties.keys()
    if both:
        raise ValueError(f"[properties.{min(both)}]: there is a field of that name")
    return catalogue
