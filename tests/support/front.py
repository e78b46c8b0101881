"""The collector's front in this process: everything from the request to the records, with a shelf for a broker."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from flask import Flask

from ingest.access.control import AccessControl
from ingest.access.rate_limit import Allowance
from ingest.counters import EventCounters
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Validator
from ingest.http.app import create_app
from ingest.http.body import BodyLimits, BodyReader
from ingest.http.cors import CorsPolicy
from ingest.http.docs import add_links
from ingest.http.endpoints import CollectEndpoints
from ingest.http.inflight import LoadBound
from ingest.http.middleware import ProxyPolicy, RequestMiddleware, RequestPolicies
from ingest.http.operations import OperationsPort
from ingest.http.wsgi import WsgiDoor
from ingest.memory import MemoryBudget
from ingest.ports import NoMetrics
from ingest.publishing.ports import Durability, Record
from schemas.codec import FRAME_BYTES, Encoder, decode, read_schema
from schemas.event import Event, read_catalogue

SCHEMA: Final = read_schema("event")
_MEMORY_BYTES: Final = 128 * 1024**2
_THREADS: Final = ThreadPoolExecutor(2, "bodies")


@dataclass
class Shelf:
    """A publisher that keeps what it is given, or fails as it is told to.

    Attributes:
        requests: the records of each request, in order.
        failure: raised instead of keeping.
        is_open: what readiness asks for.
    """

    requests: list[list[Record]] = field(default_factory=list)
    failure: Exception | None = None
    is_open: bool = True

    async def publish(self, records: Sequence[Record]) -> Durability:
        """Keep the records of one request."""
        if self.failure is not None:
            raise self.failure
        self.requests.append(list(records))
        return Durability.BROKER

    def is_ready(self) -> bool:
        """Tell what the test wants."""
        return self.is_open

    @property
    def events(self) -> list[Event]:
        """The events of all requests, decoded."""
        return [event_of(record) for records in self.requests for record in records if not record.dead]

    @property
    def letters(self) -> list[Record]:
        """The dead letters of all requests."""
        return [record for records in self.requests for record in records if record.dead]


def event_of(record: Record) -> Event:
    """Decode a record's event; ids are text and times are milliseconds, as in an Event."""
    fields = decode(record.value[FRAME_BYTES:], SCHEMA)
    return {name: _plain(value) for name, value in fields.items()}  # type: ignore[return-value]  # the schema is the Event's


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def front(  # noqa: PLR0913  (each may be another one)
    shelf: Shelf,
    gate: AccessControl | None = None,
    *,
    limits: EventLimits | None = None,
    bodies: BodyReader | None = None,
    required: tuple[str, ...] = ("eventType",),
    threads: Executor = _THREADS,
) -> Flask:
    """Return the application behind its middleware; an open collector without a count is the default."""
    validator = Validator(read_catalogue(), limits or EventLimits(), "sandbox", required)
    collector = Collector(validator, Encoder(SCHEMA, 1), shelf)
    reader = bodies or BodyReader(BodyLimits(), MemoryBudget(_MEMORY_BYTES))
    policies = policies_for(gate)
    endpoints = CollectEndpoints(collector, policies.access_control, reader, policies.load_bound, NoMetrics(), threads)
    app = create_app(endpoints, collector.is_ready)
    add_links(app)
    routes = [rule.rule for rule in app.url_map.iter_rules()]
    app.wsgi_app = WsgiDoor(app.wsgi_app, RequestMiddleware(routes, EventCounters(), policies))  # type: ignore[method-assign]  # Flask's way
    return app


def policies_for(
    gate: AccessControl | None = None,
    proxies: ProxyPolicy | None = None,
    pages: tuple[str, ...] = ("*",),
    load_bound: LoadBound | None = None,
    port: int = 0,
) -> RequestPolicies:
    """Return the policies of a collector that is open to everybody, but for what is given."""
    return RequestPolicies(
        gate or AccessControl(None, None, Allowance(0)),
        load_bound or LoadBound(1000, 60),
        proxies or ProxyPolicy(),
        CorsPolicy(pages),
        OperationsPort(port),
    )
