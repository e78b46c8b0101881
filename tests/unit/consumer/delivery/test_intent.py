"""The commit's metadata: what it says comes back, what is not ours is told apart, and no two ranges share a token."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.excluded import SPAN_MAX
from consumer.delivery.intent import METADATA_BYTES_MAX, Detour, Intent, UnreadableError, decode

TOPIC_ID = "pYk0Jd2nQXuOhTTJq3uQxw"
DETOURS = st.builds(
    Detour,
    end=st.integers(0, 2**62),
    offset=st.integers(0, 2**62),
    leader_epoch=st.integers(-1, 2**31 - 1),
    metadata=st.sampled_from(["", "1|id|5|9|", "2|id|5|9||4|0||-1|", "2|id|5|9||4|0||-1|9:5:4:1|id|5|9|"]),
)


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    """Return any intent of either version: a range, and ascending offsets in it."""
    a = draw(st.integers(0, 2**62))
    distances = sorted(draw(st.sets(st.integers(0, 5000), max_size=80)))
    old = Intent(TOPIC_ID, a, a + draw(st.integers(0, 5001)), tuple(a + distance for distance in distances), version=1)
    if draw(st.booleans()):
        return old
    return replace(
        old,
        version=2,
        leader_epoch=draw(st.integers(-1, 2**31 - 1)),
        reading=draw(st.integers(0, 2**31 - 1)),
        cluster_id=draw(st.sampled_from(["", "AI5X6gQ2T9mC1GkTn0pY_w"])),
        shard=draw(st.integers(-1, 5000)),
        detour=draw(st.none() | DETOURS),
    )


@given(intents())
def test_what_was_committed_comes_back(intent: Intent) -> None:
    """Encoding and decoding are inverse, in both versions: a version 1 stays one."""
    assert decode(intent.encode()) == intent


def test_the_text_is_what_the_module_says() -> None:
    """The format stands on disk in the group's offsets: another text is another version."""
    intent = Intent("id", 10, 30, (12, 14, 15, 16, 17), leader_epoch=4, reading=1, cluster_id="c", shard=3)
    before = Detour(25, 70, 5, "1|id|70|90|")

    assert intent.encode() == "2|id|10|30|2,1+3|4|1|c|3|"
    assert Intent("id", 5, 5).encode() == "2|id|5|5||-1|0||-1|"
    assert Intent("id", 5, 5, detour=before).encode() == "2|id|5|5||-1|0||-1|25:70:5:1|id|70|90|"
    assert Intent("id", 10, 30, (12, 14, 15, 16, 17), version=1).encode() == "1|id|10|30|2,1+3"
    assert (intent.is_range, Intent("id", 5, 5).is_range) == (True, False)


def test_a_version_1_says_what_it_said_to_the_worker_that_wrote_it() -> None:
    """Range and exclusions; what it has no room for is not known."""
    intent = decode("1|id|10|30|2,1+3")

    assert intent == Intent("id", 10, 30, (12, 14, 15, 16, 17), version=1)
    assert (intent.leader_epoch, intent.reading, intent.detour) == (-1, 0, None)


@pytest.mark.parametrize(
    "metadata",
    [
        *("x", "3|id|1|2||4|0||-1|", "1|id|1|2", "1|id|1|2||", "1|id|one|2|", "1|id|1|2|z", "1|id|1|2|1,,2"),
        *("01|id|1|2|", "2|id|1|2|", "2|id|1|2||4|0||-1", "2|id|1|2||four|0||-1|", "2|id|1|2||4|0||-1|5:6:7"),
    ],
)
def test_what_no_worker_of_these_versions_wrote_is_not_read(metadata: str) -> None:
    """Guessing would repeat or skip records: such a mark is an error, not an absence."""
    with pytest.raises(UnreadableError):
        decode(metadata)


def test_no_metadata_is_no_intent() -> None:
    """Tools that move a group's offsets leave none."""
    assert decode("") is None


def test_whatever_is_left_out_of_a_span_fits() -> None:
    """Every other offset of SPAN_MAX, beside the longest other fields, under the broker's bound; of more need not."""
    a = 2**62
    largest = Intent(TOPIC_ID, a, a + SPAN_MAX, (), 2**31 - 1, 2**31 - 1, TOPIC_ID, 10_000)

    assert replace(largest, excluded=tuple(range(a, a + SPAN_MAX, 2))).fits
    assert METADATA_BYTES_MAX < 4096
    assert not replace(largest, excluded=tuple(range(a, a + 2 * SPAN_MAX, 2))).fits


def test_a_run_of_poison_takes_little_room() -> None:
    """Thousands of successive excluded offsets are one entry."""
    assert Intent(TOPIC_ID, 0, 50_000, tuple(range(10, 40_000))).fits


def test_a_version_1_has_the_token_that_its_own_worker_gave_it() -> None:
    """Its range may be in the table under that one: under another it would be there twice."""
    assert Intent("id", 10, 30, (12,), version=1).token("cluster", 7) == "cluster/id/7/10/30"


def test_the_token_names_all_that_makes_rows_others() -> None:
    """The same offsets under another epoch, or in another reading, are not the same rows."""
    intent = Intent("id", 10, 30, (12,), leader_epoch=4, reading=1)

    assert intent.token("cluster", 7) == "2/cluster/id/7/4/1/10/30"
    others = [replace(intent, leader_epoch=5), replace(intent, reading=2), replace(intent, version=1)]
    assert len({other.token("cluster", 7) for other in (intent, *others)}) == 4


@given(intents())
def test_what_is_left_out_is_no_part_of_the_token(intent: Intent) -> None:
    """Poison is found between two tries of one range; nor is where a second reading ends."""
    again = replace(intent, excluded=(), detour=None, cluster_id="", shard=-1)

    assert intent.token("cluster", 0) == again.token("cluster", 0)
