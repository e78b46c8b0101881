"""Trace context and request ids: what is believed, and what is not."""

import re

import pytest

from ingest.http.trace import new_id, request_id_of, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_a_valid_traceparent_gives_its_trace_id(flags: str) -> None:
    """Version 00 with any flags is read."""
    assert trace_id_of(f"00-{TRACE}-{SPAN}-{flags}") == TRACE


def test_a_later_version_may_say_more() -> None:
    """The four known fields of a version to come are read, whatever follows behind a dash."""
    assert trace_id_of(f"cc-{TRACE}-{SPAN}-01") == TRACE
    assert trace_id_of(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings") == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 65}",
        f"cc-{TRACE}-{SPAN}-01-\x80",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01,cc-{TRACE}-{SPAN}-01",
        f"00-{'g' * 32}-{SPAN}-01",
    ],
)
def test_an_invalid_traceparent_is_as_good_as_none(header: str) -> None:
    """Every deviation from the specification, two headers among them, gives no trace id."""
    assert trace_id_of(header) == ""


@pytest.mark.parametrize("header", ["a", "0-9_A.z", "x" * 128])
def test_a_sane_request_id_is_kept(header: str) -> None:
    """1 to 128 harmless characters are the caller's own name for the request."""
    assert request_id_of(header) == header


@pytest.mark.parametrize("header", ["", "x" * 129, "a b", "a\n", "ä", 'a"', "a,b", "{}"])
def test_another_request_id_is_not_echoed(header: str) -> None:
    """What could break a log line or a header is not taken."""
    assert request_id_of(header) == ""


def test_a_new_id_is_fit_for_both() -> None:
    """A fresh id is a valid trace id, and no two are the same."""
    ids = {new_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in ids)
