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
NO_HOST: Final = "Host must be a name or an address, and perhaps a port"
NIL: Final = "00000000-0000-0000-0000-000000000000"
ORIGIN: Final = "access-control-allow-origin"
VARIES: Final = "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
LINKS: Final = {
    "collect": "/collect/event",
    "validate": "/collect/validate",
    "pixel": "/collect/pixel.gif",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "browserClient": "/headrace.js",
    "health": "/healthz",
    "ready": "/readyz",
    "metrics": "/metrics",
}
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
        error(415, "Content-Type must be application/json, application/x-ndjson or text/plain, got application/xml"),
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
    Row("an encoded slash is no slash", 404, ONE, error(404, "there is no such route"), path="/collect%2Fevent"),
    Row("in small letters neither", 404, ONE, error(404, "there is no such route"), path="/collect%2fevent"),
    Row("in a query it is", 201, ONE, path="/collect/event?x=%2f", events=1),
    *(
        Row(f"the Host {host!r} is none", 400, ONE, error(400, NO_HOST), headers=shown(Host=host))
        for host in (
            "a b",
            "a@b",
            "a/b",
            "a,b",
            "http://a",
            "a:b",
            "a:65536",
            "[::1",
            "a?b",
            "größe".encode().decode("latin-1"),
        )
    ),
    *(
        Row(f"the Host {host!r} is one", 201, ONE, headers=shown(Host=host), events=1)
        for host in ("a.example", "a.example:65535", "10.0.0.1:8080", "[::1]:8080", "my_app", "a:")
    ),
    Row("what a route takes", 204, method="OPTIONS", bears={"allow": "OPTIONS, POST", "content-type": None}),
    Row("what a probe takes", 204, method="OPTIONS", path="/healthz", bears={"allow": "GET, HEAD, OPTIONS"}),
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
    Row("the root names the routes", 200, answer={"service": "headrace", "links": LINKS}, method="GET", path="/"),
    Row("and is asked with GET", 405, path="/", bears={"allow": "GET, HEAD, OPTIONS"}),
    Row("the process can serve", 200, answer={"status": "ok"}, method="GET", path="/healthz"),
    Row("events can be made durable", 200, answer={"status": "ready"}, method="GET", path="/readyz"),
    Row("a probe is asked with GET", 405, path="/healthz", bears={"allow": "GET, HEAD, OPTIONS"}),
]

RETRIES: Final = [
    Row(
        "ids follow from client, key, index and content",
        201,
        request(VIEW | {"clientId": "web"}, VIEW | {"clientId": "web"}, VIEW | {"eventId": ID}),
        taken("13ba02eb-d49e-56d6-bfaa-ad3a532c2e84", "ac6ae464-7b58-530c-bd83-0715c711eab9", ID),
        headers=shown(Idempotency_Key="order-1"),
        events=3,
    ),
    Row(
        "whatever the form of the request",
        201,
        b'{"messageBody" : [{ "clientId":"w\\u0065b","eventType":"CLICK", "eventType":"VIEW"}]}',
        taken("13ba02eb-d49e-56d6-bfaa-ad3a532c2e84"),
        headers=shown(Idempotency_Key="order-1"),
        events=1,
    ),
    Row(
        "another event under a used key is another event",
        201,
        request(VIEW | {"clientId": "web", "anonId": "another"}),
        taken("63bb8201-c447-5e27-89a0-869cc5a644e3"),
        headers=shown(Idempotency_Key="order-1"),
        events=1,
    ),
    Row(
        "a nil UUID is no id",
        201,
        request(VIEW | {"eventId": NIL}, VIEW | {"pingId": NIL}),
        taken(FRESH, FRESH),
        events=2,
    ),
    Row("a key of 200 characters", 201, ONE, headers=shown(Idempotency_Key="k" * 200), events=1),
    Row(
        "characters are counted, not bytes",
        201,
        ONE,
        headers=shown(Idempotency_Key=("ö" * 200).encode().decode("latin-1")),
        events=1,
    ),
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

NAMED: Final = {"access-control-allow-origin": PAGE, "access-control-allow-credentials": "true", "vary": "Origin"}
PREFLIGHT: Final = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
AGENTS: Final = "baggage,content-type,newrelic,request-id,sentry-trace,x-requested-with"

BROWSERS: Final = [
    Row("any page may send", 201, ONE, headers=shown(Origin=PAGE), bears=NAMED, events=1),
    Row("errors can be read too", 400, b"", headers=shown(Origin=PAGE), bears=NAMED),
    Row("a page of no origin too", 201, ONE, headers=shown(Origin="null"), bears=NAMED | {ORIGIN: "null"}, events=1),
    Row(
        "and an app",
        201,
        ONE,
        headers=shown(Origin="capacitor://localhost"),
        bears=NAMED | {ORIGIN: "capacitor://localhost"},
        events=1,
    ),
    Row("who is no page is told nothing", 201, ONE, bears={ORIGIN: None, "vary": "Origin"}, events=1),
    Row(
        "figures are not shared with credentials",
        200,
        method="GET",
        path="/healthz",
        headers={"Origin": PAGE},
        bears={ORIGIN: PAGE, "access-control-allow-credentials": None},
    ),
    Row(
        "a preflight is good for a day",
        204,
        method="OPTIONS",
        headers=PREFLIGHT,
        bears=NAMED | {"access-control-max-age": "86400", "vary": VARIES},
    ),
    Row(
        "a preflight allows what is asked for",
        204,
        method="OPTIONS",
        headers=PREFLIGHT | {"Access-Control-Request-Headers": AGENTS},
        bears={"access-control-allow-headers": AGENTS, "access-control-allow-methods": "GET, POST"},
    ),
]

ROWS: Final = [*TYPES, *BODIES, *ROUTES, *RETRIES, *BROWSERS]
