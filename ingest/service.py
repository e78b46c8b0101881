"""The composition root: settings in, a running collector out. Leaving the block drains and closes, in reverse order."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from flask import Flask

from ingest.access.clients import Registry
from ingest.access.control import Gate
from ingest.access.origins import read_origins
from ingest.access.rate_limit import Allowance, LocalLimiter, RateLimiter
from ingest.access.rate_limit_redis import SharedLimiter, open_store
from ingest.counters import Ledger, Meter
from ingest.durability import open_publisher
from ingest.events.collector import Collector
from ingest.events.validator import Intake, Limits
from ingest.http.app import COUNTED, create_app, ticket_of
from ingest.http.body import BodyLimits, BodyReader
from ingest.http.client_ip import read_networks
from ingest.http.cors import CrossOrigin
from ingest.http.docs import add_pages
from ingest.http.inflight import LoadBound
from ingest.http.middleware import Door, Origins
from ingest.http.openapi import describe
from ingest.http.operations import OperationsPort
from ingest.logs import start_logging
from ingest.memory import MemoryBudget
from ingest.metrics import Telemetry
from ingest.settings import Settings, load, registry_access, store_access
from schemas.codec import Encoder, read_schema
from schemas.event import Catalogue, open_catalogue
from schemas.registry import RegistryAwayError, open_schemas

log = logging.getLogger(__name__)

_CANNOT_START: Final = 3  # gunicorn's WORKER_BOOT_ERROR: it gives up, instead of starting the worker again and again


@contextmanager
def build(settings: Settings) -> Iterator[Flask]:
    """Wire a collector. Call it after the fork: it starts the producer's threads."""
    with ExitStack() as stack:
        telemetry = Telemetry()
        ledger = Ledger(telemetry)
        stack.callback(_close_books, ledger)
        publisher = stack.enter_context(open_publisher(settings, ledger))
        schema = read_schema("event")
        schemas = open_schemas(registry_access(settings), Path(settings.schema_cache_dir), settings.topic)
        catalogue = open_catalogue(settings.catalogue_file)
        collector = Collector(_intake(settings, catalogue), Encoder(schema, schemas.id_of(schema)), publisher)
        gate = _gate(settings, telemetry)
        app = create_app(collector, gate, _body_reader(settings), telemetry)
        has_port = bool(settings.operations_port)
        interface = describe(catalogue, event_limits(settings), body_limits(settings), has_operations_port=has_port)
        add_pages(app, telemetry, interface)
        _hang_door(app, settings, ledger, gate)
        app.extensions["headrace.drain"] = publisher.drain
        yield app


def _hang_door(app: Flask, settings: Settings, ledger: Ledger, gate: Gate) -> None:
    """Put the door in front of the application's routes."""
    routes = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
    origins = Origins(read_networks(settings.trusted_proxies), settings.ip_privacy, settings.honour_privacy_signals)
    cross_origin = CrossOrigin(read_origins(settings.allowed_origins))
    routed = OperationsPort(app.wsgi_app, settings.operations_port) if settings.operations_port else app.wsgi_app
    bound = LoadBound(routed, COUNTED, lambda environ: ticket_of(gate, environ, time.time()).headers)
    app.wsgi_app = Door(bound, routes, ledger, origins, cross_origin)  # type: ignore[method-assign]  # Flask's way


def _close_books(ledger: Ledger) -> None:
    """Log the process's accounts; the last line that a worker writes."""
    figures = ledger.figures()
    log.log(logging.INFO if figures["balanced"] else logging.ERROR, "books closed", extra=figures)


def _gate(settings: Settings, meter: Meter) -> Gate:
    registry = Registry(settings.clients_file) if settings.clients_file else None
    who = "the clients of a registry" if registry else "everybody"
    extra = {"registry": settings.clients_file, "keys": registry.size if registry else 0}
    log.info("collector open to %s", who, extra=extra)
    allowance = Allowance(settings.rate_limit_requests, settings.rate_limit_events, settings.rate_limit_bytes)
    return Gate(registry, _limiter(settings, meter), allowance)


def _limiter(settings: Settings, meter: Meter) -> RateLimiter | None:
    if not settings.rate_limit_requests:
        return None
    if not settings.rate_limit_store_url:
        if settings.workers > 1:
            log.warning("each worker counts for itself: the rate limit is exact with a store only")
        return LocalLimiter(settings.rate_limit_window_s)
    access = store_access(settings)
    store = open_store(access, settings.rate_limit_store_timeout_ms / 1000)
    prefix = f"headrace:{settings.environment}:used:"
    return SharedLimiter(store, prefix, settings.rate_limit_window_s, meter, access)


def _body_reader(settings: Settings) -> BodyReader:
    return BodyReader(body_limits(settings), MemoryBudget(settings.memory_bytes_max))


def body_limits(settings: Settings) -> BodyLimits:
    """Return the caps on bodies."""
    return BodyLimits(settings.body_bytes_max, settings.inflated_bytes_max, settings.nodes_max)


def _intake(settings: Settings, catalogue: Catalogue) -> Intake:
    required = ("eventType", "clientId") if settings.clients_file else ("eventType",)
    return Intake(catalogue, event_limits(settings), settings.environment, required)


def event_limits(settings: Settings) -> Limits:
    """Return the bounds on a request's events."""
    return Limits(
        events_max=settings.events_max,
        event_bytes_max=settings.event_bytes_max,
        headers_bytes_max=settings.headers_bytes_max,
        depth_max=settings.depth_max,
        members_max=settings.members_max,
        paths_max=settings.paths_max,
        copied_bytes_max=settings.copied_bytes_max,
        clock_past_ms_max=settings.clock_past_s_max * 1000,
        clock_future_ms_max=settings.clock_future_s_max * 1000,
    )


def open_app() -> Flask:
    """Return the application of one gunicorn worker, which calls this after the fork; `close_app` is its other end."""
    settings = load(os.environ)
    start_logging(settings.log_level, settings.log_lines_per_s, refusals=settings.log_refusals)
    stack = ExitStack()
    try:
        app = stack.enter_context(build(settings))
    except (RegistryAwayError, ValueError) as error:  # a sentence for a person, who needs no traceback
        log.critical("the collector can't start", extra={"reason": str(error)})
        raise SystemExit(_CANNOT_START) from error
    app.extensions["headrace"] = stack
    return app


def drain_app(app: Flask) -> None:
    """Let /readyz say from now on that the process is going away; it serves on. Safe in a signal handler."""
    app.extensions["headrace.drain"]()


def close_app(app: Flask) -> None:
    """Drain and close what `open_app` opened."""
    app.extensions["headrace"].close()
