"""What the ingress's compiled code counts and writes is what Python does; plain events have test_both_ways.py."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events import ids, structure
from ingest.events.fresh_ids import FreshIds
from ingest.events.ids import uuid7s, uuid7s_in_python
from ingest.events.structure import marks, marks_in_python

texts = st.builds(
    lambda piece, times, rest: piece * times + rest,
    st.binary(max_size=9),
    st.sampled_from([0, 1, 13, 14, 15, 127, 128, 129, 30_000]),
    st.binary(max_size=130),
)


def test_code_is_compiled_here() -> None:
    """Else the tests below compare Python with itself."""
    assert ids.IS_COMPILED
    assert structure.IS_COMPILED


@given(texts | st.text(alphabet=',[{]}:"\\ a', max_size=700).map(str.encode))
def test_marks_are_counted_alike(text: bytes) -> None:
    """Whatever the size and the bytes."""
    assert marks(text) == marks_in_python(text) == sum(map(text.count, (b",", b"[", b"{")))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 257, 70_000])
def test_nothing_but_marks_is_counted_whole(size: int) -> None:
    """A count of a stride fits into what it is counted in."""
    assert marks(b"," * size) == marks(b"[" * size) == marks(b"{" * size) == size


@given(st.integers(0, 2**48 - 1), st.text("0123456789abcdef", min_size=26, max_size=26), st.integers(1, 300))
def test_ids_are_the_same_for_the_same_chance(at_ms: int, chance: str, count: int) -> None:
    """The moment's 48 bits, and all random ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "random_hex", lambda _: chance)

        assert list(islice(uuid7s(at_ms), count)) == list(islice(uuid7s_in_python(at_ms), count))


def test_chance_is_drawn_at_the_first_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most requests name ids for their events, and need none."""
    drawn: list[int] = []

    def draw(size: int) -> str:
        drawn.append(size)
        return "0" * 2 * size

    monkeypatch.setattr(ids, "random_hex", draw)
    for fresh in (uuid7s(1), uuid7s_in_python(1)):
        assert not drawn
        next(fresh)
        next(fresh)
        assert drawn == [13]
        drawn.clear()


def test_ids_end_before_their_counter_does() -> None:
    """It never begins again: two events would have one id."""
    past, exactly = FreshIds(lambda: ("0" * 24, 2**48 - 3, 2)), FreshIds(lambda: ("0" * 24, 2**48 - 2, 2))

    assert list(past) == ["0" * 24 + "fffffffffffd", "0" * 24 + "ffffffffffff"]
    assert list(exactly) == ["0" * 24 + "fffffffffffe"]


def test_ids_that_do_not_rise_are_refused() -> None:
    """All of them would be one id."""
    with pytest.raises(ValueError, match="rise"):
        next(FreshIds(lambda: ("0" * 24, 1, 0)))
    with pytest.raises(TypeError):
        FreshIds.__new__(FreshIds)


@pytest.mark.parametrize("begin", ["", "0" * 23, "0" * 25, "é" * 24])
def test_a_begin_of_another_size_is_refused(begin: str) -> None:
    """It is copied as it is."""
    with pytest.raises(ValueError, match=r"begin|ascii"):
        next(FreshIds(lambda: (begin, 0, 1)))
