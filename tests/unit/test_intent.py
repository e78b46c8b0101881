"""The commit's metadata: what it says comes back, and what is not ours is told apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.intent import EXCLUDED_MAX, METADATA_BYTES_MAX, Intent, UnreadableError, decode

TOPIC_ID = "pYk0Jd2nQXuOhTTJq3uQxw"


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    """Return any intent: a range, and ascending offsets in it."""
    a = draw(st.integers(0, 2**62))
    distances = sorted(draw(st.sets(st.integers(0, 5000), max_size=80)))
    return Intent(TOPIC_ID, a, a + draw(st.integers(0, 5001)), tuple(a + distance for distance in distances))


@given(intents())
def test_what_was_committed_comes_back(intent: Intent) -> None:
    """Encoding and decoding are inverse."""
    assert decode(intent.encode()) == intent


def test_the_text_is_what_the_module_says() -> None:
    """The format stands on disk in the group's offsets: another text is another version."""
    intent = Intent("id", 10, 30, (12, 14, 15, 16, 17))

    assert intent.encode() == "1|id|10|30|2,1+3"
    assert Intent("id", 5, 5).encode() == "1|id|5|5|"
    assert (intent.is_range, Intent("id", 5, 5).is_range) == (True, False)


@pytest.mark.parametrize(
    "metadata",
    ["x", "2|id|1|2|", "1|id|1|2", "1|id|1|2||", "1|id|one|2|", "1|id|1|2|z", "1|id|1|2|1,,2"],
)
def test_what_no_worker_of_this_version_wrote_is_not_read(metadata: str) -> None:
    """Guessing would repeat or skip records: such a mark is an error, not an absence."""
    with pytest.raises(UnreadableError):
        decode(metadata)


def test_no_metadata_is_no_intent() -> None:
    """Tools that move a group's offsets leave none."""
    assert decode("") is None


def test_the_promised_number_of_excluded_offsets_always_fits() -> None:
    """EXCLUDED_MAX scattered offsets of a batch of a million fit under the broker's bound; twice as many need not."""
    last = 2**63 - 1
    scattered = tuple(last - 1_000_000 * 400 + 1_000_000 * number for number in range(EXCLUDED_MAX))

    assert Intent(TOPIC_ID, last - 1_000_000 * 400, last, scattered).fits
    assert METADATA_BYTES_MAX < 4096
    assert not Intent(TOPIC_ID, 0, 10**9, tuple(range(0, 10**9, 10**6))).fits


def test_a_run_of_poison_takes_little_room() -> None:
    """Thousands of successive excluded offsets are one entry."""
    assert Intent(TOPIC_ID, 0, 50_000, tuple(range(10, 40_000))).fits
