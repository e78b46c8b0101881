"""The load bound: what is turned away, and how."""

import asyncio
from http import HTTPStatus

import pytest

from ingest.counters import EventCounters
from ingest.errors import Load, Overloaded
from ingest.http.inflight import LoadBound
from ingest.http.message import Answer, RequestHead
from ingest.http.middleware import COLLECT, RequestMiddleware
from tests.support.front import policies_for


class UnreadBody:
    """A body that must not be asked for."""

    def take(self) -> None:
        """Fail."""
        raise AssertionError("it was read")

    async def read(self, size: int, /) -> bytes:
        """Fail."""
        raise AssertionError(f"{size} bytes were read")


def ask(path: str, bound: LoadBound, counters: EventCounters) -> Answer | None:
    """Send one request through the middleware; None when it goes on."""
    middleware = RequestMiddleware([COLLECT, "/readyz"], counters, policies_for(load_bound=bound))
    context = middleware.open(RequestHead("POST", path, headers={"host": "x"}), UnreadBody())
    answer = asyncio.run(middleware.enter(context))
    whole = middleware.leave(context, answer or Answer(HTTPStatus.CREATED))
    return None if answer is None else whole


def test_beyond_it_a_request_to_collect_is_told_to_come_again_before_its_body_is_read() -> None:
    """503 with the house's document, a time to wait, and the headers of every answer."""
    bound, counters = LoadBound(1, 60), EventCounters()

    assert ask(COLLECT, bound, EventCounters()) is None
    with bound.work():
        answer = ask(COLLECT, bound, counters)
        assert ask("/readyz", bound, counters) is None

    assert answer is not None
    headers = dict(answer.headers)
    assert (answer.status, headers["Retry-After"], headers["Content-Type"]) == (503, "1", "application/json")
    assert headers["X-Request-Id"]
    assert counters.figures()["shed"] == 1
    assert ask(COLLECT, bound, EventCounters()) is None


def test_places_that_are_taken_while_bodies_arrive_are_none_for_them() -> None:
    """Whose body comes later than the others' finds no place any more; a place is free again behind its request."""
    bound = LoadBound(1, 60)
    with bound.work(), pytest.raises(Overloaded) as caught, bound.work():
        raise AssertionError("there is one place")
    with bound.work():
        pass

    assert caught.value.code is Load.OVERLOADED


def test_a_request_that_the_loop_comes_to_too_late_is_refused() -> None:
    """However few there are: the time since its arrival counts, and how late the loop is."""
    bound = LoadBound(1000, 0.5)
    now_s = RequestHead("GET", "/").received_s

    bound.check(now_s)
    with pytest.raises(Overloaded):
        bound.check(now_s - 1)
    bound.late_s = 1
    with pytest.raises(Overloaded):
        bound.check(now_s)
