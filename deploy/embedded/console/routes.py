"""The console's routes as values: a path and a body in, a reply out. Only same-origin requests get here."""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final

from deploy.embedded.console.database import Answer, Database, DatabaseError
from deploy.embedded.console.follow import CollectorError, Follower, given
from deploy.embedded.console.live import Live
from deploy.embedded.console.questions import Question, chart_of
from deploy.embedded.console.samples import FAULTS, sample
from deploy.embedded.console.traffic import MODES, Traffic, is_available
from schemas.event import Catalogue

JSON: Final = "application/json"
_ROWS_SHOWN: Final = 500
# `break` stops at the end of a block, so a few more rows may come.
_BOUNDS: Final = {"max_result_rows": 10_000, "result_overflow_mode": "break", "max_execution_time": 60}
_EVENT: Final = "SELECT * FROM events_unique WHERE event_id = {id:UUID} LIMIT 1"
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{32}")
_EVENTS_MAX: Final = 500
_DECIMALS: Final = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, content type and body."""

    status: int
    content_type: str
    body: bytes


class BadRequestError(Exception):
    """The page asked for something that does not exist; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes use."""

    live: Live
    follower: Follower
    traffic: Traffic
    database: Database
    questions: tuple[Question, ...]
    catalogue: Catalogue


class Routes:
    """Answers the page's requests. Threads share it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._routes: Mapping[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "live"): lambda _: parts.live.snapshot(),
            ("GET", "start"): lambda _: self._start(),
            ("POST", "sample"): self._sample,
            ("POST", "send"): self._send,
            ("POST", "follow"): self._follow,
            ("POST", "event"): self._event,
            ("POST", "ask"): self._ask,
            ("POST", "traffic"): self._switch,
        }

    def reply(self, method: str, name: str, body: bytes) -> Reply:
        """Answer a route by its name; every error has a `message`."""
        route = self._routes.get((method, name))
        if route is None:
            return told(HTTPStatus.NOT_FOUND, {"message": "There is no such route."})
        try:
            return told(HTTPStatus.OK, route(_parsed(body) if method == "POST" else None))
        except BadRequestError as error:
            return told(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        except (DatabaseError, CollectorError) as error:
            return told(HTTPStatus.BAD_GATEWAY, {"message": str(error)})

    def _start(self) -> dict[str, Any]:
        """Return what never changes: the page asks once."""
        parts = self._parts
        return {
            "types": {name: kind.sent_when for name, kind in parts.catalogue.types.items()},
            "faults": FAULTS,
            "questions": [asdict(question) for question in parts.questions],
            "modes": {name: mode.label for name, mode in MODES.items()} if is_available() else {},
        }

    def _sample(self, asked: Mapping[str, Any]) -> dict[str, str]:
        kind, fault = str(asked.get("type")), str(asked.get("fault", ""))
        if kind not in self._parts.catalogue.types or fault not in FAULTS:
            raise BadRequestError("There is no such sample.")
        has_good_one = asked.get("lenient") is True and fault != ""
        return {"body": sample(self._parts.catalogue, kind, fault, has_good_one=has_good_one)}

    def _send(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        body = asked.get("body")
        if not isinstance(body, str):
            raise BadRequestError("The body must be text.")
        return self._parts.follower.send(body.encode("utf-8", "replace"), is_lenient=asked.get("lenient") is True)

    def _follow(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        request, sent_ms = asked.get("request"), asked.get("sent_ms")
        if not isinstance(request, str) or not _REQUEST_ID.fullmatch(request) or not isinstance(sent_ms, float | int):
            raise BadRequestError("There is no such request.")
        if not 0 <= sent_ms < 2**53:
            raise BadRequestError("There is no such moment.")
        return self._parts.follower.follow(request, sent_ms, _count(asked.get("rows")), _count(asked.get("dead")))

    def _event(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            event_id = str(uuid.UUID(str(asked.get("id"))))
        except ValueError:
            raise BadRequestError("An event's id is a UUID.") from None
        rows = [given(record) for record in self._parts.database.ask(_EVENT, id=event_id).records()]
        if not rows:
            raise BadRequestError("There is no such event.")
        return {"row": rows[0]}

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        number, questions = asked.get("question"), self._parts.questions
        if type(number) is not int or not 0 <= number < len(questions):
            raise BadRequestError("There is no such question.")
        answer = self._parts.database.ask(questions[number].statement, _BOUNDS)
        return shown(answer)

    def _switch(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        mode, traffic = asked.get("mode"), self._parts.traffic
        if mode == "":
            traffic.stop()
        elif isinstance(mode, str) and mode in MODES and is_available():
            traffic.begin(mode)
        else:
            raise BadRequestError("There is no such traffic.")
        return traffic.state()


def shown(answer: Answer) -> dict[str, Any]:
    """Return an answer for the page: cells as text, because JavaScript rounds large numbers, and its chart."""
    return {
        "columns": [{"name": name, "type": kind} for name, kind in answer.columns],
        "rows": [[_cell(value) for value in row] for row in answer.rows[:_ROWS_SHOWN]],
        "count": len(answer.rows),
        "seconds": answer.seconds,
        "rows_read": answer.rows_read,
        "bytes_read": answer.bytes_read,
        "chart": asdict(chart_of(answer)),
    }


def told(status: HTTPStatus, value: Any) -> Reply:
    """Return a reply with JSON."""
    return Reply(status, JSON, json.dumps(value, separators=(",", ":")).encode())


def _cell(value: Any) -> str:
    if value is None:
        return "∅"
    if isinstance(value, float):
        value = round(value, _DECIMALS)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(value: Any) -> int:
    if type(value) is int and 0 <= value <= _EVENTS_MAX:
        return value
    raise BadRequestError("This is no number of events.")


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError("The body must be JSON.") from None
    if not isinstance(asked, dict):
        raise BadRequestError("The body must be an object.")
    return asked
