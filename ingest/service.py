"""The composition root: builds a running collector from settings. Leaving the block drains and closes everything."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from flask import Flask

from ingest.access.clients import Registry
from ingest.access.control import AccessControl
from ingest.access.origins import read_origins
from ingest.access.rate_limit import Allowance, LocalLimiter, RateLimiter
from ingest.access.rate_limit_redis import SharedLimiter, open_store
from ingest.counters import EventCounters, Metrics
from ingest.durability import open_publisher
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Validator
from ingest.http.app import COUNTED, admission_of, create_app
from ingest.http.body import BodyLimits, BodyReader
from ingest.http.client_ip import read_networks
from ingest.http.cors import CorsPolicy
from ingest.http.docs import add_pages
from ingest.http.inflight import LoadBound
from ingest.http.middleware import ProxyPolicy, RequestMiddleware
from ingest.http.openapi import describe
from ingest.http.operations import OperationsPort
from ingest.logs import start_logging
from ingest.memory import MemoryBudget
from ingest.metrics import PrometheusMetrics
from ingest.settings import Settings, load, registry_access, store_access
from schemas.codec import Encoder, read_schema
from schemas.event import Catalogue, open_catalogue
from schemas.registry import RegistryAwayError, open_schemas

log = logging.getLogger(__name__)

_CANNOT_START: Final = 3  # gunicorn's WORKER_BOOT_ERROR: gunicorn exits instead of starting the worker again and again


@contextmanager
def build(settings: Settings) -> Iterator[Flask]:
    """Compose a collector. Call it after the fork: it starts the producer's threads."""
    with ExitStack() as stack:
        prometheus = PrometheusMetrics()
        counters = EventCounters(prometheus)
        stack.callback(_log_final_counts, counters)
        publisher = stack.enter_context(open_publisher(settings, counters))
        schema = read_schema("event")
        schemas = open_schemas(registry_access(settings), Path(settings.schema_cache_dir), settings.topic)
        catalogue = open_catalogue(settings.catalogue_file)
        collector = Collector(_validator(settings, catalogue), Encoder(schema, schemas.id_of(schema)), publisher)
        access_control = _access_control(settings, prometheus)
        app = create_app(collector, access_control, _body_reader(settings), prometheus)
        has_port = bool(settings.operations_port)
        interface = describe(catalogue, event_limits(settings), body_limits(settings), has_operations_port=has_port)
        add_pages(app, prometheus, interface)
        _add_middleware(app, settings, counters, access_control)
        app.extensions["headrace.drain"] = publisher.drain
        yield app


def _add_middleware(app: Flask, settings: Settings, counters: EventCounters, access_control: AccessControl) -> None:
    """Wrap the application in its middleware."""
    routes = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
    origins = ProxyPolicy(read_networks(settings.trusted_proxies), settings.ip_privacy, settings.honour_privacy_signals)
    cors_policy = CorsPolicy(read_origins(settings.allowed_origins))
    routed = OperationsPort(app.wsgi_app, settings.operations_port) if settings.operations_port else app.wsgi_app
    bound = LoadBound(routed, COUNTED, lambda environ: admission_of(access_control, environ, time.time()).headers)
    app.wsgi_app = RequestMiddleware(bound, routes, counters, origins, cors_policy)  # type: ignore[method-assign]  # Flask's way


def _log_final_counts(counters: EventCounters) -> None:
    """Log the process's event counts; a worker's last line."""
    figures = counters.figures()
    log.log(logging.INFO if figures["balanced"] else logging.ERROR, "final event counts", extra=figures)


def _access_control(settings: Settings, metrics: Metrics) -> AccessControl:
    registry = Registry(settings.clients_file) if settings.clients_file else None
    who = "the clients of a registry" if registry else "everybody"
    extra = {"registry": settings.clients_file, "keys": registry.size if registry else 0}
    log.info("collector open to %s", who, extra=extra)
    allowance = Allowance(settings.rate_limit_requests, settings.rate_limit_events, settings.rate_limit_bytes)
    return AccessControl(registry, _limiter(settings, metrics), allowance)


def _limiter(settings: Settings, metrics: Metrics) -> RateLimiter | None:
    if not settings.rate_limit_requests:
        return None
    if not settings.rate_limit_store_url:
        if settings.workers > 1:
            log.warning("each worker counts for itself: without a store the rate limit is not exact")
        return LocalLimiter(settings.rate_limit_window_s)
    access = store_access(settings)
    store = open_store(access, settings.rate_limit_store_timeout_ms / 1000)
    prefix = f"headrace:{settings.environment}:used:"
    return SharedLimiter(store, prefix, settings.rate_limit_window_s, metrics, access)


def _body_reader(settings: Settings) -> BodyReader:
    return BodyReader(body_limits(settings), MemoryBudget(settings.memory_bytes_max))


def body_limits(settings: Settings) -> BodyLimits:
    """Return the limits on bodies."""
    return BodyLimits(settings.body_bytes_max, settings.inflated_bytes_max, settings.nodes_max)


def _validator(settings: Settings, catalogue: Catalogue) -> Validator:
    required = ("eventType", "clientId") if settings.clients_file else ("eventType",)
    return Validator(catalogue, event_limits(settings), settings.environment, required)


def event_limits(settings: Settings) -> EventLimits:
    """Return the limits on a request's events."""
    return EventLimits(
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
    """Return the application of one gunicorn worker, which calls this after the fork; `close_app` closes it."""
    settings = load(os.environ)
    start_logging(settings.log_level, settings.log_lines_per_s, refusals=settings.log_refusals)
    stack = ExitStack()
    try:
        app = stack.enter_context(build(settings))
    except (RegistryAwayError, ValueError) as error:  # the operator needs the sentence, not a traceback
        log.critical("the collector can't start", extra={"reason": str(error)})
        raise SystemExit(_CANNOT_START) from error
    app.extensions["headrace"] = stack
    return app


def drain_app(app: Flask) -> None:
    """Make /readyz answer 503 from now on; requests are still served. Safe in a signal handler."""
    app.extensions["headrace.drain"]()


def close_app(app: Flask) -> None:
    """Drain and close what `open_app` opened."""
    app.extensions["headrace"].close()
