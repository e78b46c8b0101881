"""The HTTP contract, row by row: against the application in this process, and against gunicorn with a broker."""

import http.client
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from flask import Flask

from ingest.access.clients import Registry
from ingest.access.control import AccessControl
from ingest.access.rate_limit import Allowance, LocalLimiter
from tests.contract import (
    rows_of_events,
    rows_of_guards,
    rows_of_handling,
    rows_of_http,
    rows_of_keys,
    rows_of_lines,
    rows_of_pixel,
)
from tests.contract.rows import Row
from tests.support.collector import Answer, Collector, collector
from tests.support.front import Shelf, front
from tests.support.kafka import EmbeddedKafka

ROWS = [
    *rows_of_events.ROWS,
    *rows_of_guards.ROWS,
    *rows_of_handling.ROWS,
    *rows_of_http.ROWS,
    *rows_of_keys.ROWS,
    *rows_of_lines.ROWS,
    *rows_of_pixel.ROWS,
]
CHUNKED = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
EVENTS = 'headrace_ingest_events_total{outcome="delivered"}'


class House(Protocol):
    """A collector that a row is tried on."""

    def ask(self, row: Row) -> Answer:
        """Send a row's request."""

    def published(self) -> tuple[int, int]:
        """Return how many events and how many dead letters were published so far."""


class InProcess:
    """The application with a shelf instead of a broker."""

    def __init__(self, registry: str) -> None:
        self.shelf = Shelf()
        required = ("eventType", "clientId") if registry else ("eventType",)
        gate = AccessControl(Registry(registry) if registry else None, LocalLimiter(60), Allowance(100_000))
        self.use(front(self.shelf, gate, required=required))

    def use(self, app: Flask) -> None:
        """Ask this application from now on."""
        self._client = app.test_client()

    def ask(self, row: Row) -> Answer:
        """Send a row's request through the WSGI interface."""
        path, _, query = row.path.partition("?")
        response = self._client.open(
            path,
            method=row.method,
            query_string=query,
            headers=dict(row.headers),
            input_stream=io.BytesIO(row.body),
            # werkzeug's client takes // for the start of a host's name
            environ_overrides={"PATH_INFO": path} | (CHUNKED if row.chunked else {}),
        )
        headers = {name.lower(): value for name, value in response.headers}
        return Answer(response.status_code, headers, response.data)

    def published(self) -> tuple[int, int]:
        """Return how many of each stand on the shelf; it holds thousands, so that none is decoded."""
        letters = len(self.shelf.letters)
        return sum(map(len, self.shelf.requests)) - letters, letters


class OnGunicorn:
    """The collector as its users meet it."""

    def __init__(self, running: Collector) -> None:
        self._running = running

    def ask(self, row: Row) -> Answer:
        """Send a row's request over its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=30)
        headers = dict(row.headers) | ({"Transfer-Encoding": "chunked"} if row.chunked else {})
        body = iter([row.body]) if row.chunked else row.body
        try:
            connection.request(row.method, row.path, body, headers, encode_chunked=row.chunked)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def published(self) -> tuple[int, int]:
        """Return how many events the broker acknowledged; dead letters do not count."""
        return int(self._running.figures()[EVENTS]), 0


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the rows' client registry."""
    path: Path = tmp_path_factory.mktemp("registry") / "clients.toml"
    path.write_text(rows_of_keys.REGISTRY)
    return str(path)


@pytest.fixture(scope="module", params=["in this process", "on gunicorn"])
def house_of(request: pytest.FixtureRequest, registry: str) -> Iterator[Callable[[str], House]]:
    """A function that returns the house of a name, the same one each time."""
    houses: dict[str, House] = {}
    with ExitStack() as stack:

        def build(name: str) -> House:
            path = registry if name == "keyed" else ""
            if request.param == "in this process":
                return InProcess(path)
            broker: EmbeddedKafka = request.getfixturevalue("embedded_broker")
            limit = {"rate_limit_requests": 100_000}
            return OnGunicorn(stack.enter_context(collector(broker.bootstrap_servers, clients_file=path, **limit)))

        def house(name: str) -> House:
            if name not in houses:
                houses[name] = build(name)
            return houses[name]

        yield house


@pytest.mark.parametrize("row", ROWS, ids=[row.rule for row in ROWS])
def test_the_answer_is_what_the_contract_says(row: Row, house_of: Callable[[str], House]) -> None:
    """Status, headers and body are the row's, and so many events are published, no more and no fewer."""
    house = house_of(row.house)
    events, letters = house.published()

    row.check(house.ask(row))

    letters += row.letters if isinstance(house, InProcess) else 0
    assert house.published() == (events + row.events, letters)
