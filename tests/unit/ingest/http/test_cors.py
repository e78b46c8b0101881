"""Cross-origin headers: what a page of which origin is told."""

import pytest

from ingest.access.origins import is_origin, read_origins
from ingest.http.cors import CorsPolicy

PAGE = "https://www.example.com"
ANY = CorsPolicy(("*",))
APPS = (
    "null",
    "capacitor://localhost",
    "ionic://localhost",
    "app://obsidian.md",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://c523aa41-9f0f-4fc2-bc96-5a8ff5520b78",
    "safari-web-extension://C523AA41-9F0F-4FC2-BC96-5A8FF5520B78",
    "file://",
    "http://localhost",
    "https://localhost:8443",
    "http://[::1]:3000",
    "http://my_app:3000",
)


@pytest.mark.parametrize("origin", [PAGE, *APPS, "made-up://x/y"])
def test_any_origin_is_named_by_default(origin: str) -> None:
    """A beacon sends with credentials, for which "*" is no permission; caches are told that answers differ."""
    headers = dict(ANY.answer_headers(origin))

    assert headers["Access-Control-Allow-Origin"] == origin
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["", "a b", "https://a,https://b", "https://größe.de", "x" * 513, "a\tb", "*, *"])
def test_what_no_browser_writes_is_not_echoed(origin: str) -> None:
    """A client that is no page gets no permission, and no text of its choice into the answer."""
    assert ANY.answer_headers(origin) == [("Vary", "Origin")]
    assert "Access-Control-Allow-Origin" not in dict(ANY.preflight_headers(origin, ""))


def test_what_a_page_may_read_of_an_answer_is_named() -> None:
    """The rate limit, the wait, the request's id and the durability are readable across origins."""
    exposed = dict(ANY.answer_headers(PAGE))["Access-Control-Expose-Headers"].split(", ")

    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= set(exposed)
    assert {"X-Request-Id", "Retry-After", "X-Durability"} <= set(exposed)


def test_what_is_not_shared_is_readable_without_credentials_alone() -> None:
    """A proxy that guards a route with a cookie stays a guard against pages of other origins."""
    headers = dict(ANY.answer_headers(PAGE, is_shared=False))

    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize("origin", [PAGE, *APPS])
def test_a_listed_origin_is_answered_by_its_name(origin: str) -> None:
    """Pages, apps and extensions stand in the list as browsers write them."""
    listed = CorsPolicy(read_origins(f"https://other.example, {origin}"))

    assert dict(listed.answer_headers(origin))["Access-Control-Allow-Origin"] == origin
    assert dict(listed.preflight_headers(origin, ""))["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", ["https://example.com", "http://www.example.com", PAGE + ":8443", "null", "", "*"])
def test_another_origin_may_not_read(origin: str) -> None:
    """An origin outside the list gets no permission, but caches are told all the same."""
    listed = CorsPolicy((PAGE,))
    headers = dict(listed.answer_headers(origin))

    assert not any(name.startswith("Access-Control-Allow") for name in headers)
    assert headers["Vary"] == "Origin"
    assert not {"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} & set(
        dict(listed.preflight_headers(origin, "", is_private=True))
    )


def test_a_preflight_is_kept_for_a_day() -> None:
    """One preflight a day and page, for both methods of the interface."""
    headers = dict(ANY.preflight_headers(PAGE, "content-type"))

    assert headers["Access-Control-Max-Age"] == "86400"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize(
    "asked",
    [
        "content-type",
        "baggage,content-type,newrelic,request-id,sentry-trace,x-requested-with",
        "Content-Type , x-datadog-trace-id,\tx-b3-flags",
        "x-!#$%&'*+.^_`|~9",
        ",".join(f"x-{number}" for number in range(300)),
    ],
)
def test_the_headers_that_a_page_asks_for_are_allowed(asked: str) -> None:
    """Agents in the page add theirs, and nobody knows them all."""
    assert dict(ANY.preflight_headers(PAGE, asked))["Access-Control-Allow-Headers"] == asked


@pytest.mark.parametrize("asked", ["", "a b", "x:y", "a,,b", ",", "x\r\ny", "größe", "x" * 2001, "a," * 900])
def test_what_is_no_list_of_names_is_not_echoed(asked: str) -> None:
    """The interface's own headers are named instead."""
    allowed = dict(ANY.preflight_headers(PAGE, asked))["Access-Control-Allow-Headers"]

    assert {"Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-API-Key"} <= set(allowed.split(", "))


def test_a_page_of_the_internet_may_reach_a_collector_in_a_private_network() -> None:
    """Browsers with Private Network Access ask for it; nobody else is told."""
    name = "Access-Control-Allow-Private-Network"

    assert dict(ANY.preflight_headers(PAGE, "", is_private=True))[name] == "true"
    assert name not in dict(ANY.preflight_headers(PAGE, ""))


@pytest.mark.parametrize(
    "text",
    [
        *("www.example.com", PAGE + "/", "HTTPS://www.example.com", "https://", "https://a b", f"{PAGE},", "Null"),
        *("capacitor://localhost/", "://x", "https://user@host", "https://a.example:", "1x://a", "https://größe.de"),
    ],
)
def test_a_slip_in_the_list_of_origins_is_an_error(text: str) -> None:
    """What no browser would send as an origin stops the start."""
    assert not is_origin(text)
    with pytest.raises(ValueError, match="is no origin"):
        read_origins(text)
