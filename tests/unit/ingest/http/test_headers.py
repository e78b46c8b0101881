"""Request headers that take more than reading: Prefer, Idempotency-Key, keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import Rejected
from ingest.http.headers import (
    check_host,
    header_text,
    prefers_lenient,
    prefers_minimal,
    read_api_key,
    read_idempotency_key,
)


@pytest.mark.parametrize(
    "prefer",
    [
        "handling=lenient",
        "HANDLING=LENIENT",
        'handling="lenient"',
        "handling = lenient",
        "respond-async, wait=10, handling=lenient; x=y",
        'note="a, b; c", handling=lenient',
        "handling=lenient, handling=strict",
    ],
)
def test_lenient_handling_is_found_in_every_form_of_rfc_7240(prefer: str) -> None:
    """Case, quotes, blanks, parameters and neighbours do not hide the preference."""
    assert prefers_lenient(prefer)


@pytest.mark.parametrize(
    "prefer",
    [
        "",
        "handling=strict",
        "handling",
        "lenient",
        "handling=lenientish",
        "x-handling=lenient",
        'note="handling=lenient"',
        'note="a, handling=lenient"',
        "handling=strict, handling=lenient",
        "return=minimal; handling=lenient",
        ",,;;==",
    ],
)
def test_nothing_else_is_lenient(prefer: str) -> None:
    """Other preferences, quoted text and a second opinion do not make a request lenient."""
    assert not prefers_lenient(prefer)


def wsgi(text: str) -> str:
    """Return a header of UTF-8 text as a server hands it over."""
    return text.encode().decode("latin-1")


@given(st.text())
def test_a_headers_text_is_utf_8_first(text: str) -> None:
    """Whatever a client writes in UTF-8 arrives."""
    assert header_text(wsgi(text)) == text


@given(st.binary())
def test_a_headers_text_is_latin_1_second(data: bytes) -> None:
    """Every byte is a character then, and none is lost."""
    text = header_text(data.decode("latin-1"))

    assert data in (text.encode("utf-8"), text.encode("latin-1", "replace"))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, ""),
        ("k", "k"),
        ("k" * 200, "k" * 200),
        (wsgi("应" * 200), "应" * 200),
        ("Gr\xf6\xdfe", "Größe"),
        ("Gr\xf6\xdfe" * 40, "Größe" * 40),
    ],
)
def test_an_idempotency_key_has_1_to_200_characters(header: str | None, key: str) -> None:
    """The bounds themselves are good, and no header is no key."""
    assert read_idempotency_key(header) == key


@pytest.mark.parametrize(("header", "length"), [("", 0), ("k" * 201, 201), (wsgi("应" * 201), 201)])
def test_an_idempotency_key_out_of_bounds_is_refused(header: str, length: int) -> None:
    """An empty key would be none by accident, a longer one is not ours to keep."""
    with pytest.raises(Rejected, match=f"1 to 200 characters, got {length}") as caught:
        read_idempotency_key(header)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("header", "authorization", "query", "key"),
    [
        ("a", "Bearer b", "c", "a"),
        ("", "Bearer b", "c", "b"),
        ("", "bearer  b ", "c", "b"),
        ("", "Basic b", "c", "c"),
        ("", "", "c", "c"),
        ("", "Bearer ", "", ""),
        ("", "", "", ""),
        (wsgi("Schlüssel"), "", "", "Schlüssel"),
        ("", f"Bearer {wsgi('Schlüssel')}", "", "Schlüssel"),
        ("", "", "Schlüssel", "Schlüssel"),
    ],
)
def test_a_key_is_taken_from_the_first_place_that_shows_one(
    header: str, authorization: str, query: str, key: str
) -> None:
    """X-API-Key goes before a bearer token, and that before the query."""
    assert read_api_key(header, authorization, query) == key


@pytest.mark.parametrize(
    "host", ["a", "a.example.", "A-1.example:80", "[2001:db8::1]", "[::ffff:10.0.0.1]:1", "a_b:0", "a:"]
)
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    """With a port or without."""
    check_host(host, "HTTP/1.1")
    check_host(host, "HTTP/1.0")


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "a\tb",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "a:b",
        "a:-1",
        "a:65536",
        "a:123456",
        "[",
        "[::1",
        "::1",
        "ä",
        "a" * 256,
    ],
)
def test_anything_else_is_no_host(host: str) -> None:
    """In HTTP/1.0 neither."""
    for protocol in ("HTTP/1.1", "HTTP/1.0"):
        with pytest.raises(Rejected, match="Host must be") as caught:
            check_host(host, protocol)
        assert caught.value.status == 400


def test_a_request_has_a_host() -> None:
    """But for HTTP/1.0, which did not know it."""
    check_host(None, "HTTP/1.0")
    with pytest.raises(Rejected, match="Host must be"):
        check_host(None, "HTTP/1.1")


@pytest.mark.parametrize(
    "prefer", ["return=minimal", 'handling=lenient, Return="MINIMAL"; x=y', "return=minimal, return=x"]
)
def test_a_client_may_ask_for_short_answers(prefer: str) -> None:
    """Beside other preferences, in any case; of several the first counts."""
    assert prefers_minimal(prefer)


@pytest.mark.parametrize("prefer", ["", "return", "return=representation", 'x="return=minimal"', "handling=minimal"])
def test_nobody_asked_for_short_answers(prefer: str) -> None:
    """The pingIds are told unless a client says that it does not want them."""
    assert not prefers_minimal(prefer)
