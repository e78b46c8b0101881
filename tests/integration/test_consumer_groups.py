"""Worker processes share a topic and come and go: every offset is inserted once, and the marks end at the end."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures_group import ON_EMBEDDED, ON_KAFKA, Group
from tests.support.group_processes import Workers
from tests.support.log_members import until
from tests.support.shared_table import SharedTable

pytestmark = pytest.mark.kafka
on_kafka = pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
# It keeps no intents: a death may double a batch there, see the warning at the start; all else is exact.
on_the_embedded_broker = pytest.mark.parametrize("group", ON_EMBEDDED, ids="-".join, indirect=True)


@pytest.fixture
def workers(group: Group, tmp_path: Path) -> Iterator[Workers]:
    """No process yet, and an empty table."""
    table = SharedTable()
    with table.serving() as port:
        made = Workers(group, tmp_path, port, table)
        yield made
        made.kill_all()


def assert_exact(workers: Workers, count: int) -> None:
    """Wait until the group's marks stand at the end; then every record must be a row, once."""
    ends = dict.fromkeys(range(4), count)
    until(lambda: {place.number: mark.offset for place, mark in workers.group.marks().items()} == ends)
    assert workers.table.rows == {(number, offset): 1 for number in range(4) for offset in range(count)}


@on_kafka
def test_one_leaves_and_one_freezes_and_comes_back(workers: Workers) -> None:
    """The group gives up the frozen one; thawed, it inserts nothing before it is given partitions again."""
    with workers.load() as finish:
        first = workers.start("first")
        workers.await_shared(first)
        second, third = workers.start("second"), workers.start("third")
        workers.await_shared(first, second, third)
        second.stop()
        workers.await_shared(first, third)

        third.freeze()
        workers.await_shared(first)
        thawed_s = time.monotonic()
        third.thaw()
        until(lambda: any(at_s > thawed_s and name == "assigned" for at_s, name, _ in third.heard))
        workers.await_shared(first, third)
        count = finish()
    assert_exact(workers, count)

    calls = [(name, at_s) for at_s, name, _ in third.heard if at_s > thawed_s]
    again_s = next(at_s for name, at_s in calls if name == "assigned")
    assert calls[0][0] in ("lost", "revoked")
    assert not [block for block in workers.table.applied if block.member == "third" and thawed_s < block.at_s < again_s]
    third.stop()
    first.stop()
    assert_exact(workers, count)


@on_kafka
def test_static_members_come_and_one_is_killed(workers: Workers) -> None:
    """Each under its own name; a killed one's partitions go to another after its session."""
    with workers.load() as finish:
        first = workers.start("first", group_instance_id="first")
        workers.await_shared(first)
        second, third = (workers.start(name, group_instance_id=name) for name in ("second", "third"))
        workers.await_shared(first, second, third)
        second.stop()
        workers.await_shared(first, third)
        third.kill()
        workers.await_shared(first)
        count = finish()
    assert_exact(workers, count)
    first.stop()


@on_kafka
def test_a_static_member_that_restarts_keeps_its_partitions(workers: Workers) -> None:
    """Within its session; the other one hears of nothing."""
    patient: dict[str, str | int] = {} if workers.group.protocol == "kip848" else {"session.timeout.ms": 6000}
    with workers.load() as finish:
        first = workers.start("first", group_instance_id="first", **patient)
        workers.await_shared(first)
        second = workers.start("second", group_instance_id="second", **patient)
        workers.await_shared(first, second)
        before, owned = first.heard, second.owned

        second.stop()
        again = workers.start("second", group_instance_id="second", **patient)
        workers.await_shared(first, again)
        count = finish()
    assert_exact(workers, count)

    assert first.heard == before
    assert again.owned == owned
    first.stop()
    again.stop()


@on_the_embedded_broker
def test_without_intents_all_that_is_done_in_order_is_exact(workers: Workers) -> None:
    """Members come and leave, and the last one stops and starts again."""
    with workers.load() as finish:
        first = workers.start("first")
        workers.await_shared(first)
        second = workers.start("second")
        workers.await_shared(first, second)
        first.stop()
        workers.await_shared(second)
        second.stop()
        third = workers.start("third")
        workers.await_shared(third)
        count = finish()
    assert_exact(workers, count)
    third.stop()
