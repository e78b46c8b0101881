"""An answer's head on the wire."""

from http import HTTPStatus

import msgspec
import pytest

from ingest.http.message import Answer, Headers
from ingest.http.responses import error_body
from ingest.server.responses import head_of


def lines_of(status: HTTPStatus, headers: Headers, body: bytes = b"") -> list[str]:
    """Return the lines of a head without the first one."""
    head = head_of(Answer(status, body, headers), keeps=True).decode()
    assert head.endswith("\r\n\r\n")
    return head.removesuffix("\r\n\r\n").split("\r\n")[1:]


@pytest.mark.parametrize("headers", [(), (("Date", "Thu, 26 Nov 2026 20:00:00 GMT"),)])
def test_a_head_has_one_date(headers: Headers) -> None:
    """Flask dates the files that it sends, and we date the rest."""
    dates = [line for line in lines_of(HTTPStatus.OK, headers) if line.startswith("Date: ")]

    assert len(dates) == 1
    assert not headers or dates == [f"Date: {headers[0][1]}"]


@pytest.mark.parametrize(
    ("status", "headers", "lengths"),
    [
        (HTTPStatus.OK, (), ["Content-Length: 3"]),
        (HTTPStatus.OK, (("Content-Length", "7"),), ["Content-Length: 7"]),  # of HEAD, whose answer has no body
        (HTTPStatus.NO_CONTENT, (), []),
        (HTTPStatus.NOT_MODIFIED, (), []),
    ],
)
def test_a_head_has_one_length_or_none(status: HTTPStatus, headers: Headers, lengths: list[str]) -> None:
    """Two lengths would be an attack, and RFC 9110 forbids one with 204."""
    lines = lines_of(status, headers, b"abc")

    assert [line for line in lines if line.startswith("Content-Length: ")] == lengths


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb"])
def test_no_header_breaks_the_line(value: str) -> None:
    """What a header holds may come from a client."""
    with pytest.raises(ValueError, match="line break"):
        lines_of(HTTPStatus.OK, (("X-Request-Id", value),))


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (413, "Request Entity Too Large"),
        (414, "Request-URI Too Long"),
        (422, "Unprocessable Entity"),
        (429, "Too Many Requests"),
    ],
)
def test_reasons_are_worded_alike_by_every_python(status: int, phrase: str) -> None:
    """On the status line and in the document; Python 3.13 has new words for some."""
    line, _, _ = head_of(Answer(HTTPStatus(status), b"", ()), keeps=True).decode().partition("\r\n")

    assert line == f"HTTP/1.1 {status} {phrase}"
    assert msgspec.json.decode(error_body(status, "why"))["error"] == phrase
