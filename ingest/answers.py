"""The bodies of answers: what each event became, and the one JSON document of every error."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from ingest.errors import Fault
from ingest.intake import FAULTS_MAX, Refusal, Verdict
from schemas.event import Event

JSON: Final = "application/json"
_encode: Final = msgspec.json.Encoder().encode


def taken(entries: Sequence[Event | Refusal]) -> bytes:
    """Return the body of a 201: one element per event of the request, in its order."""
    return f"[{', '.join(map(_element, entries))}]".encode()


def _element(entry: Event | Refusal) -> str:
    if isinstance(entry, Refusal):
        value = _encode({"error": HTTPStatus.BAD_REQUEST.phrase, "message": entry.faults[0].headline})
        return _encode({"headers": {"statusCode": "400"}, "value": value.decode()}).decode()
    # A pingId is canonical, so nothing in it needs escaping.
    return f'{{"headers": {{}}, "value": "{{\\"pingId\\": \\"{entry["pingId"]}\\"}}"}}'


def judged(verdict: Verdict) -> bytes:
    """Return the body of a dry run: whether the whole is valid, and each event with its faults, FAULTS_MAX in all."""
    left = FAULTS_MAX
    events: list[dict[str, object]] = []
    for index, entry in enumerate(verdict.entries):
        faults = entry.faults[:left] if isinstance(entry, Refusal) else ()
        left -= len(faults)
        said: dict[str, object] = {"index": index, "valid": not isinstance(entry, Refusal), "details": details(faults)}
        events.append(said if said["valid"] else said | {"message": entry.faults[0].headline})  # type: ignore[union-attr]  # it is a Refusal then
    return _encode({"valid": not verdict.faults, "events": events})


def refused(status: int, message: str, faults: Sequence[Fault] = ()) -> bytes:
    """Return the document of an error; `faults` beyond FAULTS_MAX are left out."""
    document: dict[str, Any] = {"error": HTTPStatus(status).phrase, "message": message, "statusCode": status}
    return _encode(document | {"details": details(faults[:FAULTS_MAX])} if faults else document)


def details(faults: Sequence[Fault]) -> list[dict[str, object]]:
    """Return faults in the form that clients read."""
    return [{"index": f.index, "pointer": f.pointer, "rule": f.rule, "message": f.message} for f in faults]
