"""Asks the spool of this machine, and tells which records an id names."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from headrace.findings import Finding, State, Station
from headrace.identity import Identity
from ingest.publishing.ports import Record, SpoolError
from ingest.spool.search import search
from schemas.codec import FRAME_BYTES, LETTER_HEADER, FrameError, decode, schema_id_of

SchemaOf = Callable[[int], str]
_OF_REQUEST: Final = f"{LETTER_HEADER}request_id"
_INSTEAD: Final = "search for the pingId of the answer"


def moment(at_ms: float) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{int(at_ms) % 1000:03d}Z"


def event_in(value: bytes, schema_of: SchemaOf) -> dict[str, Any] | None:
    """Return the event in a record or in a dead letter; None when its bytes are none, or its schema is unknown."""
    try:
        framed = value[:1] == b"\0"
        event = decode(value[FRAME_BYTES:], schema_of(schema_id_of(value))) if framed else json.loads(value)
    except (FrameError, LookupError, ValueError, TypeError, RecursionError, ConnectionError):
        return None
    return event if isinstance(event, dict) else None


class Matcher:
    """Tells which records an identity names."""

    def __init__(self, identity: Identity, schema_of: SchemaOf) -> None:
        self._identity, self._schema_of = identity, schema_of

    def is_named(self, value: bytes, headers: Mapping[str, bytes]) -> bool:
        """Tell whether a record is named: its request, or one of its event's ids.

        Bytes that can't be read are named when they hold the id: more can't be told of them.
        """
        if headers.get(_OF_REQUEST, b"").decode("utf-8", "replace").lower() == self._identity.text.lower():
            return True
        needles = self._identity.needles if self._identity.event_id else ()
        if not any(needle in value.lower() for needle in needles):
            return False
        event = event_in(value, self._schema_of)
        return event is None or self._identity.names(event)


def not_named(station: Station, identity: Identity, absent: str) -> Finding:
    """Return that a station has nothing of an identity; unknown if it can't be asked by such an id."""
    if not identity.may_be_chosen:
        return Finding(station, State.ABSENT, absent)
    if not identity.event_id:
        return Finding(station, State.UNKNOWN, f"events do not have such a request id: {_INSTEAD}")
    unknown = (
        f"a request id that came with a traceparent is in no event: say --event if this is an event's id, or {_INSTEAD}"
    )
    return Finding(station, State.UNKNOWN, f"{absent}; but {unknown}")


def ask_spool(directory: Path, matcher: Matcher, identity: Identity) -> list[Finding]:
    """Return what the spool of this machine holds."""

    def is_wanted(record: Record) -> bool:
        return matcher.is_named(record.value, dict(record.headers))

    try:
        found = search(directory, is_wanted)
    except SpoolError as error:
        return [Finding(Station.SPOOL, State.UNKNOWN, str(error))]
    findings = [
        Finding(
            Station.SPOOL,
            State.FOUND,
            f"the broker refuses it: {held.parked}; see `headrace ingest spool list`"
            if held.parked
            else f"waits for Kafka since {moment(held.accepted_at_ms)}",
            str(directory / held.file),
        )
        for held in found.held
    ]
    findings += [Finding(Station.SPOOL, State.UNKNOWN, sentence) for sentence in found.unread]
    absent = f"not among {found.records} records in {directory}; other machines have their own spool"
    if findings:
        return findings
    return [
        not_named(Station.SPOOL, identity, absent) if found.records else Finding(Station.SPOOL, State.ABSENT, absent)
    ]
