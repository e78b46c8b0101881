"""A row of the HTTP contract: one request, and exactly what comes back."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from tests.support.collector import Answer

JSON: Final = {"Content-Type": "application/json"}
KNOWN: Final = "CLICK, EXIT, PING, PURCHASE, REGISTRATION, TRANSACTION, VIEW"
_IMAGE: Final = "/collect/pixel.gif"
_COUNTED: Final = ("/collect/event", "/collect/validate", _IMAGE)
_GIF: Final = b"GIF89a\x01\x00\x01\x00"
_GIF_BYTES: Final = "43"
_UUID7: Final = re.compile(r'\{"pingId": "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"\}')


class Fresh:
    """Equals the value of an element whose pingId is a new UUIDv7, in canonical form."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and _UUID7.fullmatch(other) is not None

    __hash__ = None  # type: ignore[assignment]  # it equals many


FRESH: Final = Fresh()


class Shown:
    """Equals an object that has these members, among others."""

    def __init__(self, **members: object) -> None:
        self._members = members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and other | self._members == other

    __hash__ = None  # type: ignore[assignment]  # it equals many


@dataclass(frozen=True)
class Row:
    """One rule of the contract.

    Attributes:
        rule: what the contract says, shortly; the name of the test.
        status: of the answer.
        body: of the request.
        answer: the answer's JSON value; None leaves it open.
        bears: headers of the answer by lower-case name; None means that it must not be there.
        events: how many events, and letters: how many dead letters, are published by this request.
        house: which collector is asked: "open", or "keyed" with a client registry.
        chunked: the body is sent without a Content-Length.
    """

    rule: str
    status: int
    body: bytes = b""
    answer: Any = None
    method: str = "POST"
    path: str = "/collect/event"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    bears: Mapping[str, str | None] = field(default_factory=dict)
    events: int = 0
    letters: int = 0
    house: str = "open"
    chunked: bool = False

    def check(self, answer: Answer) -> None:
        """Compare an answer with the row."""
        assert answer.status == self.status, answer.body[:500]
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        for name, value in self.bears.items():
            assert answer.headers.get(name) == value, name
        self._check_window(answer)
        if self.path.partition("?")[0] == _IMAGE and self.method in ("GET", "HEAD"):
            self._check_image(answer)
        elif self.status >= HTTPStatus.BAD_REQUEST:
            self.check_error(answer)
        if self.answer is not None:
            assert answer.headers["content-type"] == "application/json"
            assert answer.json == self.answer

    def _check_window(self, answer: Answer) -> None:
        is_preflight = "Access-Control-Request-Method" in self.headers
        counted = self.path.partition("?")[0] in _COUNTED and not is_preflight
        for name in ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"):
            assert (name in answer.headers) is counted, name
            assert not counted or answer.headers[name].isdigit()

    def _check_image(self, answer: Answer) -> None:
        assert (answer.headers["content-type"], answer.headers["content-length"]) == ("image/gif", _GIF_BYTES)
        assert answer.body.startswith(_GIF) or self.method == "HEAD"

    def check_error(self, answer: Answer) -> None:
        """Every error has the same form, and echoes no payload."""
        assert answer.headers["content-type"] == "application/json"
        if self.method == "HEAD":
            return
        document = answer.json
        assert set(document) - {"details"} == {"error", "message", "statusCode"}
        assert (document["error"], document["statusCode"]) == (HTTPStatus(self.status).phrase, self.status)
        assert len(document.get("details", ())) <= 50
        assert all(set(detail) == {"index", "pointer", "rule", "message"} for detail in document.get("details", ()))
        sentences = [document["message"], *(detail["message"] for detail in document.get("details", ()))]
        assert all(0 < len(sentence) <= 200 for sentence in sentences)


def request(*events: object, **members: object) -> bytes:
    """Return the body of a request with these events."""
    return json.dumps({"messageBody": events} | members).encode()


def taken(*ping_ids: str | Fresh) -> list[dict[str, Any]]:
    """Return the answer that names these pingIds."""
    return [{"headers": {}, "value": item if item is FRESH else f'{{"pingId": "{item}"}}'} for item in ping_ids]


def left(message: str) -> dict[str, Any]:
    """Return the element of an event that a lenient request left behind."""
    return {
        "headers": {"statusCode": "400"},
        "value": json.dumps({"error": "Bad Request", "message": message}, separators=(",", ":")),
    }


def error(status: int, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """Return the document of an error."""
    document = {"error": HTTPStatus(status).phrase, "message": message, "statusCode": status}
    return document | {"details": list(details)} if details else document


def detail(index: int | None, pointer: str, rule: str, message: str) -> dict[str, Any]:
    """Return one of an error's details."""
    return {"index": index, "pointer": pointer, "rule": rule, "message": message}


def bad_request(pointer: str, rule: str, message: str) -> dict[str, Any]:
    """Return the error of a request that is refused as a whole."""
    return error(400, message, detail(None, pointer, rule, message))


def bad_event(index: int, name: str, rule: str, message: str) -> dict[str, Any]:
    """Return the error of a request with one bad field in one event."""
    pointer = f"/messageBody/{index}/{name}" if name else f"/messageBody/{index}"
    headline = "invalid event type" if rule == "enum" else message
    return error(400, headline, detail(index, pointer, rule, message))


def shown(**headers: str) -> Mapping[str, str]:
    """Return the headers of a request with others; their dashes are written as underscores."""
    return JSON | {name.replace("_", "-"): value for name, value in headers.items()}
