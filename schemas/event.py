"""The event in memory, and the catalogue that says what clients may send.

`Event` has one key per field of event.avsc, under the same names and in the same order; the table's columns are the
same names in snake_case (a contract test compares the three).
"""

import tomllib
from importlib.resources import files
from typing import Final, Literal, TypedDict

import msgspec


class Event(TypedDict):
    """One event, complete: every field is present, absent strings are "", an absent `active` is -1.

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
"""The latest moment that the table holds, 2299-12-31; the earliest is 0. See clickhouse/0008_events_by_id.sql."""
COLLECTOR_FIELDS: Final = ("receivedAt", "occurredAt", "ip", "environment", "traceId", "headers", "properties")
"""Set by the collector; a client's member of that name is kept in `properties`."""


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event type: when clients send it, and the fields it has besides the common ones."""

    sent_when: str
    fields: tuple[str, ...] = ()


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field that clients send. `known` lists values for readers; others are kept, not refused."""

    type: Literal["string", "uuid", "int8"]
    doc: str
    length_min: int = 0
    length_max: int | None = None
    known: tuple[str, ...] = ()


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients may send: event types and fields by name, and the documented members of `properties`."""

    types: dict[str, EventType]
    fields: dict[str, Field]
    properties: dict[str, str]


def read_catalogue(text: str | None = None) -> Catalogue:
    """Read a catalogue, the project's own by default.

    Raises:
        ValueError: the text is no TOML, has an unknown member, names a type in lower case or a field without a column.
    """
    if text is None:
        text = files("schemas").joinpath("catalogue.toml").read_text(encoding="utf-8")
    catalogue = msgspec.convert(tomllib.loads(text), Catalogue)
    for name in catalogue.types:
        if name != name.upper():
            raise ValueError(f"event type {name!r} is not in upper case")
    for name in catalogue.fields:
        if name not in Event.__annotations__ or name in COLLECTOR_FIELDS:
            raise ValueError(f"field {name!r} has no column that a client may fill")
    return catalogue
