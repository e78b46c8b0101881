"""Content codings of the embedded ClickHouse."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.embedded.clickhouse_encodings import decoded, encoded
from deploy.embedded.clickhouse_errors import ClickHouseError

CODINGS = ("lz4", "zstd", "gzip", "deflate")


@pytest.mark.parametrize("coding", CODINGS)
@given(body=st.binary(min_size=1, max_size=2000), size=st.integers(1, 300))
def test_a_body_survives_its_coding(coding: str, body: bytes, size: int) -> None:
    """However the bytes are cut on their way."""
    packed, chosen = encoded(body, [coding])
    assert chosen == coding
    chunks = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert b"".join(decoded(chunks, coding)) == body


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_cut_short_is_refused(coding: str) -> None:
    """Half a body is no body."""
    packed, _ = encoded(b"row\n" * 1000, [coding])
    with pytest.raises(ClickHouseError, match="ends too early"):
        list(decoded([packed[:-5]], coding))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_in_another_coding_is_refused(coding: str) -> None:
    """A wrong header does not put bytes into a table."""
    with pytest.raises(ClickHouseError, match="CANNOT_DECOMPRESS"):
        list(decoded([b"plain text, no coding at all"], coding))


def test_members_one_after_the_other_are_one_body() -> None:
    """As `cat a.gz b.gz` makes them."""
    assert b"".join(decoded([gzip.compress(b"a") + gzip.compress(b"b")], "gzip")) == b"ab"


def test_an_unknown_coding_is_refused_and_none_is_chosen() -> None:
    """Bodies cannot come in it, and answers go out as they are."""
    with pytest.raises(ClickHouseError, match="NOT_IMPLEMENTED"):
        list(decoded([b""], "br"))
    assert encoded(b"x", ["br", "identity"]) == (b"x", None)
