"""Answers as bytes."""

import logging
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Final

from ingest.http.message import Answer
from ingest.http.responses import JSON, PHRASES, error_body
from ingest.http.trace import new_id
from ingest.logs import REFUSALS
from ingest.server.parsing import RefusedError

log = logging.getLogger(REFUSALS)

_LINES: Final = {status: f"HTTP/1.1 {status} {phrase}" for status, phrase in PHRASES.items()}
_REFUSED: Final = "refused_by_server"
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class _Clock:
    """The Date header's line, made once a second."""

    def __init__(self) -> None:
        self._at_s = 0
        self._text = ""

    def text(self) -> str:
        now_s = int(time())
        if now_s != self._at_s:
            self._at_s, self._text = now_s, f"Date: {formatdate(now_s, usegmt=True)}"
        return self._text


_clock: Final = _Clock()


def head_of(answer: Answer, *, keeps: bool) -> bytes:
    """Return the status line and headers; `keeps` tells the client whether the connection goes on.

    Raises:
        ValueError: a header has a line break in it.
    """
    status, headers = answer.status, answer.headers
    known = dict(headers)
    lines = [_LINES.get(status) or f"HTTP/1.1 {status} "]
    if "Date" not in known:
        lines.append(_clock.text())
    lines += map(": ".join, headers)
    if "Content-Length" not in known and status not in _BODILESS:
        lines.append(f"Content-Length: {len(answer.body)}")
    lines.append("Connection: keep-alive" if keeps else "Connection: close")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a header of an answer has a line break in it")
    return f"{head}\r\n\r\n".encode("latin-1")


def refusal_bytes(refusal: RefusedError) -> bytes:
    """Return the whole answer of a request that never reaches the application, which ends the connection; log it."""
    request_id = new_id()
    log.info("request refused", extra={"request_id": request_id, "status": int(refusal.status), "outcome": _REFUSED})
    headers = [("Content-Type", JSON), ("X-Request-Id", request_id)]
    answer = Answer(refusal.status, error_body(refusal.status, refusal.message), headers)
    return head_of(answer, keeps=False) + answer.body
