"""How a request is followed to its rows and dead letters."""

import time
from collections.abc import Mapping
from typing import Any

from deploy.embedded.console.database import Answer, Database
from deploy.embedded.console.follow import Follower, given

REQUEST = "0123456789abcdef0123456789abcdef"


class Arriving(Database):
    """A database in which one more row is there at each look, and all dead letters at once."""

    def __init__(self, dead: int) -> None:
        super().__init__("http://127.0.0.1:9")
        self.dead, self.looks = dead, 0

    def ask(self, query: str, settings: Mapping[str, object] | None = None, **parameters: object) -> Answer:
        """Return rows with their times."""
        assert settings is None
        assert parameters["request"] == REQUEST
        columns = ("_topic", "_partition", "_offset", "received_ms", "inserted_ms")
        is_dead = "FROM dead_letters" in query
        self.looks += not is_dead
        count = self.dead if is_dead else self.looks
        rows: list[list[Any]] = [["events", 0, offset, 1_000_005, 1_000_400] for offset in range(count)]
        return Answer(tuple((name, "") for name in columns), rows)


def test_each_row_has_its_place_and_its_times() -> None:
    """In ms after the sending; a row that is seen twice keeps the moment of the first look."""
    sent_ms = time.time_ns() / 1e6
    database = Arriving(dead=0)
    told = Follower("http://127.0.0.1:9", database).follow(REQUEST, 1_000_000.0, rows=3, dead=0)

    assert told["is_complete"]
    assert [row["place"] for row in told["rows"]] == [f"events / 0 / {offset}" for offset in range(3)]
    assert (told["rows"][0]["received_ms"], told["rows"][0]["inserted_ms"]) == (5, 400)
    seen = [row["seen_ms"] for row in told["rows"]]
    assert sent_ms - 1_000_000 <= seen[0] < seen[1] < seen[2]
    assert database.looks == 3


def test_dead_letters_are_followed_beside_rows() -> None:
    """Those that the answer speaks of; without any, nobody looks for one."""
    told = Follower("http://127.0.0.1:9", Arriving(dead=2)).follow(REQUEST, 1_000_000.0, rows=1, dead=2)

    assert (len(told["rows"]), len(told["dead"])) == (1, 2)


def test_nothing_to_follow_is_complete_at_once() -> None:
    """No look at all."""
    database = Arriving(dead=0)

    assert Follower("http://127.0.0.1:9", database).follow(REQUEST, 1.0, rows=0, dead=0)["is_complete"]
    assert database.looks == 0


def test_a_row_is_shown_without_its_empty_columns() -> None:
    """What was not given is left out; a refund of 1 is no default."""
    row = {"url": "", "amount": -1, "active": -1, "headers": {}, "counter": None, "scroll_depth": 0, "seen": False}

    assert given(row | {"received_ms": 5}) == {"amount": -1, "scroll_depth": 0, "seen": False}
