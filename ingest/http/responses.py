"""The bodies of answers: one entry per event, and the JSON document of every error."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from ingest.errors import Fault
from ingest.events.dry_run import ROWS_BYTES_MAX, Warned, row_of
from ingest.events.validator import FAULTS_MAX, InvalidEvent, ValidationResult
from schemas.event import Property

JSON: Final = "application/json"
PHRASES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}
"""Reason phrases by status. Python 3.13 has others for these four."""
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
# Around a pingId, which needs no escaping: it is a canonical UUID.
_BEFORE_ID: Final = '{"headers": {}, "value": "{\\"pingId\\": \\"'
_AFTER_ID: Final = '\\"}"}'
_BETWEEN_IDS: Final = f"{_AFTER_ID}, {_BEFORE_ID}"


def accepted_body(entries: Sequence[str | InvalidEvent]) -> bytes:
    """Return the body of a 201: one element per event, its pingId or its fault, in request order."""
    try:
        ids = _BETWEEN_IDS.join(entries)  # type: ignore[arg-type]  # nearly always there are only ids
    except TypeError:  # an event was refused
        return f"[{', '.join(map(_element, entries))}]".encode()
    return f"[{_BEFORE_ID}{ids}{_AFTER_ID}]".encode() if entries else b"[]"


def _element(entry: str | InvalidEvent) -> str:
    if isinstance(entry, InvalidEvent):
        value = _encode({"error": PHRASES[HTTPStatus.BAD_REQUEST], "message": entry.faults[0].headline})
        return _encode({"headers": {"statusCode": "400"}, "value": value.decode()}).decode()
    return f"{_BEFORE_ID}{entry}{_AFTER_ID}"


def validation_body(result: ValidationResult, warned: Sequence[Warned], promoted: Mapping[str, Property]) -> bytes:
    """Return the body of a dry run: whether all events are valid, and the result of each.

    `promoted` are the members that an operator has given columns.

    A valid event shows its row until all rows together exceed ROWS_BYTES_MAX. An invalid one shows its faults, at most
    FAULTS_MAX over all events.
    """
    faults_left, bytes_left = FAULTS_MAX, ROWS_BYTES_MAX
    warnings: dict[int, list[dict[str, object]]] = {}
    for item in warned:
        warnings.setdefault(item.index, []).append(_detail(item))
    events: list[dict[str, object]] = []
    for index, entry in enumerate(result.entries):
        is_valid = not isinstance(entry, InvalidEvent)
        faults = entry.faults[:faults_left] if isinstance(entry, InvalidEvent) else ()
        faults_left -= len(faults)
        said = {"index": index, "valid": is_valid, "details": details(faults), "warnings": warnings.get(index, [])}
        if isinstance(entry, InvalidEvent):
            said["message"] = entry.faults[0].headline
        elif bytes_left > 0:
            row = _encode(row_of(entry, promoted))
            bytes_left -= len(row)
            if bytes_left >= 0:
                said["row"] = msgspec.Raw(row)
        events.append(said)
    return _encode({"valid": not result.faults, "events": events})


def error_body(status: int, message: str, faults: Sequence[Fault] = ()) -> bytes:
    """Return the document of an error; `faults` beyond FAULTS_MAX are left out."""
    document: dict[str, Any] = {"error": PHRASES[status], "message": message, "statusCode": status}
    return _encode(document | {"details": details(faults[:FAULTS_MAX])} if faults else document)


def details(faults: Sequence[Fault]) -> list[dict[str, object]]:
    """Return faults as members of the JSON answer."""
    return [_detail(fault) for fault in faults]


def _detail(said: Fault | Warned) -> dict[str, object]:
    return {"index": said.index, "pointer": said.pointer, "rule": said.rule, "message": said.message}
