"""The contract's rows on HTTP: types and codings, caps, routes and methods, retries, browsers."""

import gzip
import zlib
from typing import Final

from backports import zstd

from tests.contract.rows import FRESH, JSON, Row, error, request, shown, taken
from tests.contract.rows_of_events import ID, VIEW

MIB: Final = 1024 * 1024
ONE: Final = request(VIEW)
PAGE: Final = "https://www.example.com"
CODINGS: Final = "gzip, deflate, zstd, identity"


def padded(size: int) -> bytes:
    """Return a good body of exactly this size."""
    return ONE + b" " * (size - len(ONE))


def raw_deflate(data: bytes) -> bytes:
    """Compress without zlib's header."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def typed(content_type: str) -> dict[str, str]:
    """Return the headers of a request of this type."""
    return {"Content-Type": content_type}


def coded(coding: str) -> dict[str, str]:
    """Return the headers of a request in this coding."""
    return {**JSON, "Content-Encoding": coding}


TYPES: Final = [
    *(
        Row(f"{content_type} is taken", 201, ONE, headers=typed(content_type), events=1)
        for content_type in (
            "application/json",
            "Application/JSON; Charset=UTF-8",
            "text/plain;charset=UTF-8",
            "text/plain",
        )
    ),
    Row("no type is taken", 201, ONE, headers={}, events=1),
    Row(
        "another type is not",
        415,
        ONE,
        error(415, "Content-Type must be application/json or text/plain, got application/xml"),
        headers=typed("application/xml"),
    ),
    Row(
        "another charset is not",
        415,
        ONE,
        error(415, "the charset must be UTF-8, got iso-8859-1"),
        headers=typed("application/json; charset=iso-8859-1"),
    ),
    Row("a form is not", 415, b"a=b", headers=typed("application/x-www-form-urlencoded")),
]

BODIES: Final = [
    *(
        Row(f"{coding} is inflated ({pack.__name__})", 201, pack(ONE), taken(FRESH), headers=coded(coding), events=1)
        for coding, pack in (
            ("gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("deflate", raw_deflate),
            ("zstd", zstd.compress),
            ("identity", bytes),
        )
    ),
    Row(
        "another coding is not known",
        415,
        ONE,
        error(415, f"Content-Encoding must be one of {CODINGS}, got br"),
        headers=coded("br"),
        bears={"accept-encoding": CODINGS},
    ),
    Row(
        "a gzip body that is cut",
        400,
        gzip.compress(ONE)[:-5],
        error(400, "the gzip body is truncated"),
        headers=coded("gzip"),
    ),
    Row("a gzip body that is none", 400, ONE, error(400, "the body is not valid gzip"), headers=coded("gzip")),
    Row("1 MiB as sent is taken", 201, padded(MIB), events=1),
    Row("more is not", 413, padded(MIB + 1), error(413, "the body has 1048577 bytes, at most 1048576 are taken")),
    Row("5 MiB inflated are taken", 201, gzip.compress(padded(5 * MIB)), headers=coded("gzip"), events=1),
    Row(
        "more are not",
        413,
        gzip.compress(padded(5 * MIB + 1)),
        error(413, "the body inflates to more than 5242880 bytes"),
        headers=coded("gzip"),
    ),
    Row("a bomb", 413, zstd.compress(bytes(100 * MIB)), headers=coded("zstd")),
    Row("a chunked body is taken", 201, ONE, chunked=True, events=1),
    Row("a chunked body of 1 MiB is taken", 201, padded(MIB), chunked=True, events=1),
    Row("more is not, chunked", 413, padded(MIB + 1), error(413, "the body has more than 1048576 bytes"), chunked=True),
]

ROUTES: Final = [
    Row("another route", 404, ONE, error(404, "there is no such route"), path="/collect"),
    Row("a doubled slash is another route", 404, ONE, error(404, "there is no such route"), path="//collect/event"),
    Row("and one inside, not a redirect", 404, ONE, error(404, "there is no such route"), path="/collect//event"),
    Row("a slash at the end too", 404, ONE, error(404, "there is no such route"), path="/collect/event/"),
    *(
        Row(
            f"{method} does not collect",
            405,
            answer=None if method == "HEAD" else error(405, "the route takes OPTIONS, POST"),
            method=method,
            bears={"allow": "OPTIONS, POST"},
        )
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE")
    ),
    Row("the process can serve", 200, answer={"status": "ok"}, method="GET", path="/healthz"),
    Row("events can be made durable", 200, answer={"status": "ready"}, method="GET", path="/readyz"),
    Row("a probe is asked with GET", 405, path="/healthz", bears={"allow": "GET, HEAD, OPTIONS"}),
]

RETRIES: Final = [
    Row(
        "ids follow from client, key and index",
        201,
        request(VIEW | {"clientId": "web"}, VIEW | {"clientId": "web"}, VIEW | {"eventId": ID}),
        taken("f1a637a2-04b0-5643-b42e-de7203390c52", "db724fed-92a6-59eb-9457-b357e4c4bf77", ID),
        headers=shown(Idempotency_Key="order-1"),
        events=3,
    ),
    Row("a key of 200 characters", 201, ONE, headers=shown(Idempotency_Key="k" * 200), events=1),
    Row(
        "a key of 201 characters",
        400,
        ONE,
        error(400, "Idempotency-Key must have 1 to 200 characters, got 201"),
        headers=shown(Idempotency_Key="k" * 201),
    ),
    Row(
        "an empty key",
        400,
        ONE,
        error(400, "Idempotency-Key must have 1 to 200 characters, got 0"),
        headers=shown(Idempotency_Key=""),
    ),
]

BROWSERS: Final = [
    Row(
        "any page may send", 201, ONE, headers=shown(Origin=PAGE), bears={"access-control-allow-origin": "*"}, events=1
    ),
    Row("errors can be read too", 400, b"", headers=shown(Origin=PAGE), bears={"access-control-allow-origin": "*"}),
    Row(
        "a preflight is good for a day",
        204,
        method="OPTIONS",
        headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"},
        bears={"access-control-max-age": "86400", "access-control-allow-origin": "*"},
    ),
]

ROWS: Final = [*TYPES, *BODIES, *ROUTES, *RETRIES, *BROWSERS]
