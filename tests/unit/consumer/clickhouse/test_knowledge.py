"""What follows from a table's shape, and what does not when only a part of it may be seen."""

from typing import Any

import pytest

from consumer.clickhouse.client import Target
from consumer.clickhouse.knowledge import Knowledge
from consumer.errors import Denied, Halt, HaltCode
from tests.support.fixtures_consumer import TOPIC

COLUMNS = [{"part": "column", "name": "active", "text": "Int8"}]


class Server:
    """A connection to a server that does not tell of constraints for some reason."""

    database = "headrace"

    def __init__(self, refusal: Halt | None) -> None:
        self.refusal = refusal

    def query(self, statement: str, _: object) -> list[dict[str, Any]]:
        """Tell of the columns."""
        if self.refusal is not None and "system.constraints" in statement:
            raise self.refusal
        return COLUMNS


def known(refusal: Halt | None) -> frozenset[str]:
    """Return the fields that decide about rows of which no query tells."""
    target = Target("events", "event", TOPIC, 30)
    return Knowledge(Server(refusal), target).now(0.0).inputs  # type: ignore[arg-type]  # it asks no more than that


@pytest.mark.parametrize("refusal", [Denied("497 ACCESS_DENIED"), Halt("60 UNKNOWN_TABLE", HaltCode.TABLE)])
def test_no_rows_are_alike_to_constraints_that_are_not_known(refusal: Halt) -> None:
    """Else good rows between two that violate one would be called poison with them."""
    assert known(None)
    assert known(refusal) == frozenset()


def test_a_right_that_is_given_later_changes_what_is_known() -> None:
    """The table has no constraint, so that nothing but the right differs."""
    server = Server(Denied("497 ACCESS_DENIED"))
    knowledge = Knowledge(server, Target("events", "event", TOPIC, 30))  # type: ignore[arg-type]  # as above
    before = knowledge.now(0.0)
    server.refusal = None

    assert (before.inputs, bool(knowledge.now(0.0).inputs)) == (frozenset(), True)
