"""Requests that nobody should send, and some that everybody does, as hypothesis strategies."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backports import zstd
from flask.testing import FlaskClient
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from ingest.errors import Rejected
from ingest.events.parsing import parse
from schemas.event import read_catalogue

ID: Final = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
CATALOGUE: Final = read_catalogue()

# Characters of every plane, and halves of surrogate pairs, which are no letters.
texts = st.text(st.characters(), max_size=12) | st.text(st.characters(categories=("Cs", "Ll")), max_size=4)
integers = st.integers() | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400])
scalars = st.none() | st.booleans() | integers | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
names = st.sampled_from([*CATALOGUE.fields, *CATALOGUE.properties, "ip", "headers", "properties", "receivedAt"]) | texts
types = st.sampled_from([*CATALOGUE.types, "view", "Click", "CLIK", ""]) | values
fitting = st.sampled_from([ID, ID.upper(), "text", "", 0, 1, True, 1.0, -1, None, 1_800_000_000_000, "x" * 129])
harmless = (
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
)
good_events = st.builds(
    lambda kind, rest: rest | {"eventType": kind},
    st.sampled_from(list(CATALOGUE.types)),
    st.dictionaries(st.sampled_from([*CATALOGUE.properties, "x"]), harmless, max_size=3),
)
events = (
    good_events
    | st.builds(
        lambda kind, rest: rest | {"eventType": kind}, types, st.dictionaries(names, fitting | values, max_size=6)
    )
    | st.dictionaries(names, values, max_size=4)
    | values
)


def nested(depth: int, bracket: str) -> bytes:
    """Return an event with a value so many levels deep, perhaps one that never ends."""
    start, end = {"[": (b"[", b"]"), "{": (b'{"x":', b"}"), "[…": (b"[", b"")}[bracket]
    inside = start * depth + (b"1" if bracket == "{" else b"") + end * depth
    return b'{"messageBody": [{"eventType": "VIEW", "deep": ' + inside + b"}]}"


@st.composite
def requests_in_json(draw: st.DrawFn) -> bytes:
    """Draw a request whose members may be anything, some of them twice, in ASCII or with raw (half) characters."""
    members: list[tuple[str, Any]] = [("messageBody", draw(st.lists(events, max_size=6) | values))]
    for name, strategy in (
        ("messageHeaders", st.dictionaries(texts, scalars, max_size=3) | values),
        ("messageheader", values),
        ("messageBody", st.lists(good_events, min_size=1, max_size=3) | values),
        ("topic", values),
    ):
        if draw(st.integers(0, 3)) == 0:
            members.append((name, draw(strategy)))
    is_ascii = draw(st.booleans())
    pairs = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=is_ascii)}" for name, value in members)
    return f"{{{', '.join(pairs)}}}".encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a request of which some bytes are others, or gone."""
    body = draw(requests_in_json())
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=4)) + body[at + draw(st.integers(0, 3)) :]


good_bodies = st.lists(good_events, min_size=1, max_size=8).map(lambda some: json.dumps({"messageBody": some}).encode())
bodies = (
    requests_in_json()
    | good_bodies
    | st.lists(good_events | events, min_size=1, max_size=8).map(
        lambda some: json.dumps({"messageBody": some}).encode()
    )
    | good_bodies
    | damaged()
    | st.builds(nested, st.sampled_from([1, 28, 29, 30, 500, 2000]), st.sampled_from(["[", "{", "[…"]))
    | values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
)


def raw_deflate(data: bytes) -> bytes:
    """Compress without zlib's header."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, identity": raw_deflate,
    "zstd": zstd.compress,
    "": bytes,
    "br": bytes,
}


@dataclass(frozen=True)
class Request:
    """A request and what it means.

    Attributes:
        sent: the bytes of the body, as they are sent.
        length: the Content-Length, None for a chunked body.
        meant: the body that this is in truth, None when it is damaged, cut or mislabelled on the way.
    """

    path: str
    headers: Mapping[str, str]
    sent: bytes
    length: int | None
    meant: bytes | None

    def send(self, client: FlaskClient) -> TestResponse:
        """Post it."""
        environ: dict[str, Any] = {"CONTENT_LENGTH": str(self.length)}
        if self.length is None:
            environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
        return client.post(
            self.path, headers=dict(self.headers), input_stream=io.BytesIO(self.sent), environ_overrides=environ
        )


def parsed(body: bytes | None) -> Any:
    """Return a body's JSON; None when it has none as a whole: one broken event may be left out of a lenient request."""
    try:
        return None if body is None else json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_json(body: bytes) -> bool:
    """Tell whether a body is JSON as the collector's parser takes it: no half characters, no NaN."""
    try:
        parse(body)
    except Rejected:
        return False
    return True


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request with a body that may be cut, damaged or of another length than it says."""
    body, coding = draw(bodies), draw(st.sampled_from(["", "", "", *PACKERS]))
    sent, meant = PACKERS[coding](body), None if coding == "br" else body
    fate = draw(st.sampled_from(["whole"] * 6 + ["cut", "damaged", "mislabelled", "longer", "shorter", "chunked"]))
    length: int | None = len(sent)
    if fate == "cut":
        sent, meant = sent[: draw(st.integers(0, len(sent)))], None
        length = len(sent)
    elif fate == "damaged" and sent:
        at = draw(st.integers(0, len(sent) - 1))
        sent, meant = sent[:at] + bytes([sent[at] ^ draw(st.integers(1, 255))]) + sent[at + 1 :], None
    elif fate == "mislabelled":
        coding, meant = draw(st.sampled_from(list(PACKERS))), None
    elif fate in ("longer", "shorter"):
        length = max(0, len(sent) + draw(st.integers(1, 50)) * (1 if fate == "longer" else -1))
        meant = None if length != len(sent) else meant
    elif fate == "chunked":
        length = None
    path = draw(st.sampled_from(["/collect/event"] * 3 + ["/collect/validate"]))
    return Request(path, draw(headers(coding)), sent, length, meant)


@st.composite
def headers(draw: st.DrawFn, coding: str) -> dict[str, str]:
    """Draw the headers of a request in this coding."""
    drawn = {
        "Content-Encoding": coding,
        "Content-Type": draw(st.sampled_from(["application/json"] * 4 + ["", "text/plain;charset=utf-8", "text/csv"])),
        "Prefer": draw(st.sampled_from(["", "", "handling=lenient", "handling=lenient", 'x="handling=lenient"'])),
        "Idempotency-Key": draw(st.sampled_from([""] * 8 + ["k", "k" * 201])),
    }
    return {name: value for name, value in drawn.items() if value}
