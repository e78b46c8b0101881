"""The pixel: one event in the query of an image, for mails and AMP pages, which run no script.

Every answer is an image, because the reader of a mail should see no broken one. The status tells what became of the
event: 200 is answered when it is durable, and a refusal has its code in X-Error-Code. docs/decisions/requests.md says
why.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.errors import ErrorCode, Rejected
from ingest.events.envelope import BODY
from ingest.events.parsing import INTEGER_MAX, INTEGER_MIN, PARSE_ERRORS, decode
from ingest.http.message import Answer
from schemas.event import Catalogue

GIF: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""One transparent point."""
QUERY_BYTES_MAX: Final = 8190  # our server's bound on the whole request line; others may take more
KEY: Final = "key"
"""The parameter that holds the API key, as on the other routes; it is no member of the event."""
_HEADERS: Final = (
    ("Content-Type", "image/gif"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),  # for pages with COEP
)
_OWN: Final = frozenset({"content-type", "content-length"})
# https://wicg.github.io/nav-speculation/prefetch.html#sec-purpose-header, and what older browsers send.
_PURPOSES: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_SPECULATIVE: Final = ("prefetch", "prerender", "preview")
_NUMERIC: Final = frozenset({"int8", "integer", "number", "boolean"})
_encode: Final = msgspec.json.Encoder().encode


def image_of(answer: Answer, outcome: str) -> Answer:
    """Return an answer with the image for its body; an error says its code, `outcome`, in a header."""
    kept = [(name, value) for name, value in answer.headers if name.lower() not in _OWN]
    code = [("X-Error-Code", outcome)] if answer.status >= HTTPStatus.BAD_REQUEST else []
    return Answer(answer.status, GIF, [*kept, *_HEADERS, *code])


def check_purpose(headers: Mapping[str, str]) -> None:
    """Return if a person is about to see the image.

    Raises:
        Rejected: 403, a browser fetches it in case that somebody may want to see it.
    """
    for name in _PURPOSES:
        value = headers.get(name)
        if value is not None and any(word in value.lower() for word in _SPECULATIVE):
            raise Rejected(ErrorCode.PREFETCH, "a prefetch is no event; ask again when the image is shown")


class QueryReader:
    """Turns queries into events. Immutable, so threads share it.

    A query has texts only. So a member that the catalogue knows as a number or a flag is read as JSON, and one that is
    a list of texts is always a list. Everything else stays a text, and what is repeated is a list.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._types = {name: entry.type for name, entry in (catalogue.properties | catalogue.fields).items()}

    def request_of(self, query: str) -> bytes:
        """Return the body of a request to /collect/event that has this event; `query` is Latin-1, as it was sent.

        Raises:
            Rejected: 413, the query is too long; 400, a text is not UTF-8.
        """
        if len(query) > QUERY_BYTES_MAX:
            raise Rejected(
                ErrorCode.TOO_LARGE, f"the query has {len(query)} bytes, at most {QUERY_BYTES_MAX} are taken"
            )
        members: dict[str, list[str]] = {}
        for parameter in query.encode("latin-1", "replace").split(b"&"):
            if parameter:
                name, _, value = parameter.partition(b"=")
                members.setdefault(_text(name), []).append(_text(value))
        members.pop(KEY, None)
        return _encode({BODY: [{name: self._value(name, texts) for name, texts in members.items()}]})

    def _value(self, name: str, texts: list[str]) -> Any:
        kind = self._types.get(name)
        if len(texts) > 1 or kind == "strings":
            return texts
        return _scalar(texts[0]) if kind in _NUMERIC else texts[0]


def _text(sent: bytes) -> str:
    """Undo the percent-encoding of a name or a value: https://url.spec.whatwg.org/#urlencoded-parsing."""
    try:
        return unquote_to_bytes(sent.replace(b"+", b" ")).decode()
    except UnicodeDecodeError as error:
        raise Rejected(ErrorCode.BAD_EVENT_JSON, "the query is not valid UTF-8") from error


def _scalar(text: str) -> float | str:
    """Return the number or the flag that a text is in JSON; otherwise the text itself, which the field then refuses."""
    try:
        value = decode(text.encode())
    except PARSE_ERRORS:
        return text
    is_exact = type(value) in (float, bool) or (type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX)
    return value if is_exact else text
