"""Request headers that take more than reading: Prefer, Idempotency-Key, keys."""

import pytest

from ingest.errors import Rejected
from ingest.headers import prefers_lenient, read_api_key, read_idempotency_key


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


@pytest.mark.parametrize(("header", "key"), [(None, ""), ("k", "k"), ("k" * 200, "k" * 200)])
def test_an_idempotency_key_has_1_to_200_characters(header: str | None, key: str) -> None:
    """The bounds themselves are good, and no header is no key."""
    assert read_idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", "k" * 201])
def test_an_idempotency_key_out_of_bounds_is_refused(header: str) -> None:
    """An empty key would be none by accident, a longer one is not ours to keep."""
    with pytest.raises(Rejected, match=f"1 to 200 characters, got {len(header)}") as caught:
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
    ],
)
def test_a_key_is_taken_from_the_first_place_that_shows_one(
    header: str, authorization: str, query: str, key: str
) -> None:
    """X-API-Key goes before a bearer token, and that before the query."""
    assert read_api_key(header, authorization, query) == key
