"""What browsers are told about other origins."""

import pytest

from ingest.browsers import CrossOrigin, read_origins

PAGE = "https://www.example.com"


def test_any_origin_may_read_by_default() -> None:
    """A star, the same for every page, needs no Vary, and credentials are never allowed."""
    headers = dict(CrossOrigin(read_origins("*")).answer_headers(PAGE))

    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in headers
    assert "Access-Control-Allow-Credentials" not in headers


def test_what_a_page_may_read_of_an_answer_is_named() -> None:
    """The rate limit, the wait, the request's id and the durability are readable across origins."""
    exposed = dict(CrossOrigin(("*",)).answer_headers(PAGE))["Access-Control-Expose-Headers"].split(", ")

    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= set(exposed)
    assert {"X-Request-Id", "Retry-After", "X-Durability"} <= set(exposed)


def test_a_listed_origin_is_answered_by_its_name() -> None:
    """With a list, the page's own origin comes back, and caches are told that the answer depends on it."""
    headers = dict(CrossOrigin(read_origins(f"{PAGE}, http://localhost:3000")).answer_headers(PAGE))

    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://example.com", "http://www.example.com", PAGE + ":8443", "null", ""])
def test_another_origin_may_not_read(origin: str) -> None:
    """An origin outside the list gets no permission, but caches are told all the same."""
    headers = dict(CrossOrigin((PAGE,)).answer_headers(origin))

    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Vary"] == "Origin"


def test_a_preflight_is_kept_for_a_day() -> None:
    """One preflight a day and page, for all methods and headers of the interface."""
    headers = dict(CrossOrigin(("*",)).preflight_headers(PAGE))

    assert headers["Access-Control-Max-Age"] == "86400"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST"
    allowed = {name.lower() for name in headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"content-type", "content-encoding", "idempotency-key", "prefer", "x-api-key"} <= allowed
    assert {"authorization", "traceparent"} <= allowed


@pytest.mark.parametrize(
    "text", ["www.example.com", PAGE + "/", "HTTPS://www.example.com", "https://", "ftp://a.b", f"{PAGE},", "null"]
)
def test_a_slip_in_the_list_of_origins_is_an_error(text: str) -> None:
    """What no browser would send as an origin stops the start."""
    with pytest.raises(ValueError, match="is no origin"):
        read_origins(text)
