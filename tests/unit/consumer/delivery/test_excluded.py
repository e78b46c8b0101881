"""Excluded offsets as text: what goes in comes out, and how much room any of them may take."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.excluded import SPAN_MAX, decode_excluded, encode_excluded
from consumer.delivery.intent import METADATA_BYTES_MAX

ROOM = METADATA_BYTES_MAX - 420  # an intent's other fields at their longest, without a detour
STARTS = st.integers(0, 2**62)


def scattered(start: int, count: int, share: float) -> list[int]:
    """Return a share of so many successive offsets."""
    chance = random.Random(f"{count} {share}")
    return [offset for offset in range(start, start + count) if chance.random() < share]


@given(STARTS, st.sets(st.integers(0, 2**40), max_size=60), st.booleans())
def test_what_goes_in_comes_out(start: int, distances: set[int], is_plain: bool) -> None:  # noqa: FBT001  (hypothesis calls it)
    """Any ascending offsets, however far apart, in the plain form and in the shorter one."""
    offsets = [start + distance for distance in sorted(distances)]

    assert list(decode_excluded(start, encode_excluded(start, offsets, is_plain=is_plain))) == offsets


@given(STARTS, st.lists(st.tuples(st.integers(1, 3000), st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])), max_size=20))
def test_any_subset_of_a_span_finds_room(start: int, stretches: Sequence[tuple[int, float]]) -> None:
    """Thick and thin in any order: a range of so many offsets can be left out in whatever pattern."""
    offsets, at = list[int](), start
    for count, share in stretches:
        offsets += [offset for offset in scattered(at, count, share) if offset < start + SPAN_MAX]
        at += count
    text = encode_excluded(start, offsets)

    assert len(text) <= ROOM
    assert list(decode_excluded(start, text)) == offsets


@pytest.mark.parametrize(
    "pattern", [[1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0]]
)
def test_no_pattern_is_worse(pattern: list[int]) -> None:
    """Every other offset is the most that there is to tell."""
    offsets = [offset for offset in range(SPAN_MAX) if pattern[offset % len(pattern)]]

    assert len(encode_excluded(0, offsets)) <= ROOM


@pytest.mark.parametrize(("share", "rows"), [(0.001, 1_000_000), (0.01, 200_000), (0.05, 60_000), (0.2, 24_000)])
def test_a_share_of_poison_leaves_batches_large(share: float, rows: int) -> None:
    """So many rows with so much scattered poison are one batch."""
    assert len(encode_excluded(7, scattered(7, rows, share))) <= ROOM


def test_a_few_offsets_can_be_read() -> None:
    """A person who looks at the group's metadata sees them."""
    assert encode_excluded(10, [12, 14, 15, 16, 17]) == "2,1+3"
    assert encode_excluded(10, []) == ""


@pytest.mark.parametrize(
    "text",
    ["z", "1,,2", "~", "~1.1.1", "~0.0.ff.AA", "~0.0.1.!!", "~7f.0.1.AAAA", "~0.3f.1.AA", "~1.1.1.AA.AA", "~x.0.1.AA"],
)
def test_what_is_none_of_both_forms_is_refused(text: str) -> None:
    """A mark that somebody else wrote is not guessed at."""
    with pytest.raises(ValueError, match=r".+"):
        list(decode_excluded(0, text))
