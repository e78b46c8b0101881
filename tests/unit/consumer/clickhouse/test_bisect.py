"""Finding poison rows: all of them, nothing else, in few probes."""

from collections.abc import Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clickhouse.bisect import Bisection
from consumer.errors import Fatal, Reason, Rejected, Transient


class Table:
    """A table that refuses some rows, and says which one when it `names` it; counts what it is asked.

    `lies` is added to each row that it names.
    """

    def __init__(self, bad: set[int], *, names: set[int] = frozenset()) -> None:  # type: ignore[assignment]  # frozenset() is an empty set
        self.bad = bad
        self.names = names
        self.lies = 0
        self.probes = 0
        self.rows = 0

    def probe(self, rows: Sequence[int]) -> Rejected | None:
        """Refuse rows when one of them is bad."""
        self.probes += 1
        self.rows += len(rows)
        at = next((place for place, row in enumerate(rows, 1) if row in self.bad), None)
        if at is None:
            return None
        named = at + self.lies if rows[at - 1] in self.names else None
        return Rejected("no", 117, named, Reason.BAD_VALUE)

    def search(self, count: int, found_max: int = 401) -> list[int]:
        """Search rows 0..count as the caller does, the first insert having been refused; return offsets."""
        first = self.probe(range(count))
        assert first is not None
        self.probes = self.rows = 0
        search = Bisection([offset_of(row) for row in range(count)], self.probe, found_max)
        return [poison.offset for poison in search.run(first)]


def offset_of(row: int) -> int:
    """Return a row's offset: not its number, and with gaps."""
    return 1000 + 3 * row


def test_a_named_row_costs_three_probes() -> None:
    """The empty insert, the row alone, and the rest without it."""
    table = Table({70_000}, names={70_000})

    assert table.search(100_000) == [offset_of(70_000)]
    assert table.probes == 3


def test_several_named_rows_cost_two_probes_each() -> None:
    """Each refusal names the next one."""
    bad = {3, 500, 501, 99_999}
    table = Table(bad, names=bad)

    assert table.search(100_000) == sorted(map(offset_of, bad))
    assert table.probes == 1 + 2 * len(bad)


def test_a_row_that_nobody_names_is_found_by_halving() -> None:
    """About twice log2(n) probes at the most."""
    for row in (0, 1, 4095, 4096, 8191):
        table = Table({row})
        assert table.search(8192) == [offset_of(row)]
        assert table.probes <= 2 * ceil(log2(8192)) + 2


def test_a_named_row_is_believed_only_when_it_is_refused_alone() -> None:
    """A server may count otherwise: the named row may be a good one."""
    table = Table({10}, names={10})
    table.lies = 5

    assert table.search(64) == [offset_of(10)]


@pytest.mark.parametrize("lies", [-100, 100])
def test_a_named_row_that_is_not_there_is_no_error(lies: int) -> None:
    """A number outside the block is ignored."""
    table = Table({10}, names={10})
    table.lies = lies

    assert table.search(64) == [offset_of(10)]


def test_a_refusal_that_no_row_explains_blames_none() -> None:
    """Refused together and taken apart: too large for something, but no row is bad."""

    def probe(rows: Sequence[int]) -> Rejected | None:
        return Rejected("too large", 131) if len(rows) > 8 else None

    search = Bisection(range(16), probe, 401)

    assert search.run(Rejected("too large", 131)) == []


def test_a_row_is_not_blamed_for_a_refusal_that_is_gone() -> None:
    """Somebody dropped the constraint meanwhile; also a batch of one is asked for before it is blamed."""
    for count in (1, 2, 9):
        assert Bisection(range(count), lambda _: None, 401).run(Rejected("no", 469)) == []


def test_a_table_that_refuses_an_empty_insert_stops_the_worker() -> None:
    """Then the statement is at fault; taking out rows one by one would empty the topic into the dead letters."""
    search = Bisection(range(16), lambda _: Rejected("a column is of another type", 27), 401)

    with pytest.raises(Fatal, match="without rows"):
        search.run(Rejected("a column is of another type", 27))


def test_the_search_ends_when_more_is_found_than_anybody_believes() -> None:
    """A topic of nothing but poison costs a bounded number of probes."""
    table = Table(set(range(100_000)))

    assert len(table.search(100_000, found_max=401)) == 401
    assert table.probes < 1000

    named = Table(set(range(100_000)), names=set(range(100_000)))
    assert len(named.search(100_000, found_max=401)) == 401
    assert named.probes < 1000


@pytest.mark.parametrize(("every", "probes_each"), [(20, 7), (75, 9)])
def test_scattered_rows_cost_few_probes_of_few_rows(every: int, probes_each: int) -> None:
    """Finding one resends no more than its neighbours: with a name two probes, without it log2 of a gap."""
    bad = set(range(every - 1, 27_000, every))
    for names, probes_max in ((bad, 2 * len(bad) + 100), (set[int](), probes_each * len(bad) + 100)):
        table = Table(bad, names=names)
        assert table.search(27_000, found_max=10_000) == sorted(map(offset_of, bad))
        assert table.probes <= probes_max
        assert table.rows <= 600 * len(bad) + 6 * 27_000


@pytest.mark.parametrize(("slowness_s", "least"), [(0.01, 100), (60.0, 1)])
def test_a_search_ends_in_time_with_the_first_rows(slowness_s: float, least: int) -> None:
    """The caller leaves them out and comes again; it has one row at the least, however slow the table is."""
    bad = set(range(19, 27_000, 20))
    table = Table(bad)
    search = Bisection(range(27_000), table.probe, 10_000, 10.0, lambda: table.probes * slowness_s)
    found = [poison.offset for poison in search.run(Rejected("no", 117))]

    assert found == sorted(bad)[: len(found)]
    assert least <= len(found) < len(bad)
    assert table.probes * slowness_s < 10.0 + 20 * slowness_s


def test_a_probe_without_an_answer_ends_the_search() -> None:
    """No verdict is given while the server is away."""

    def probe(rows: Sequence[int]) -> Rejected | None:
        if len(rows) == 2:
            raise Transient("away")
        return Rejected("no", 117) if rows else None

    with pytest.raises(Transient):
        Bisection(range(8), probe, 401).run(Rejected("no", 117))


@given(st.data())
def test_all_poison_is_found_and_nothing_else(data: st.DataObject) -> None:
    """Whatever rows are bad, named rightly or wrongly."""
    count = data.draw(st.integers(1, 300))
    rows = st.integers(0, count - 1)
    some = st.sets(rows, max_size=min(20, count))
    bad = data.draw(st.sets(rows, min_size=1, max_size=min(40, count)))
    table = Table(bad, names=data.draw(some))
    table.lies = data.draw(st.sampled_from([0, 0, -1, 1, 7]))

    assert table.search(count) == sorted(map(offset_of, bad))
    assert table.probes <= 3 + 3 * len(bad) * (ceil(log2(count)) + 2)  # a wrong name costs one more at each step
