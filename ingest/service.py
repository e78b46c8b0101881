"""The composition root: builds a running collector from settings. Leaving the block drains and closes everything."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flask import Flask

from ingest.access.clients import Registry
from ingest.access.control import AccessControl
from ingest.access.origins import read_origins
from ingest.access.rate_limit import Allowance, LocalLimiter, RateLimiter
from ingest.counters import EventCounters
from ingest.durability import open_publisher
from ingest.events.client_counters import ClientCounters
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Validator
from ingest.http.app import create_app
from ingest.http.body import BodyLimits, BodyReader
from ingest.http.browser_client import add_browser_client, read_browser_client
from ingest.http.client_ip import read_networks
from ingest.http.cors import CorsPolicy
from ingest.http.docs import add_links, add_pages
from ingest.http.endpoints import CollectEndpoints
from ingest.http.handler import RequestHandler
from ingest.http.inflight import LoadBound
from ingest.http.middleware import ProxyPolicy, RequestMiddleware, RequestPolicies
from ingest.http.openapi import describe
from ingest.http.operations import OperationsPort
from ingest.http.wsgi import WsgiDoor
from ingest.logs import start_logging
from ingest.memory import MemoryBudget
from ingest.metrics import PrometheusMetrics
from ingest.ports import Metrics
from ingest.process_metrics import reporting
from ingest.publishing.kafka import LIBRARY_VERSION
from ingest.settings import Settings, finish_s, load, registry_access, store_access
from ingest.tracing import open_spans
from schemas.codec import Encoder, read_schema
from schemas.event import Catalogue, open_catalogue
from schemas.registry import RegistryAwayError, open_schemas

log = logging.getLogger(__name__)

_EXTENSION: Final = "headrace"
_PAGE_THREADS: Final = 2  # probes, metrics, documentation: rare, and some 1 ms each
_CANNOT_START: Final = 3  # gunicorn's WORKER_BOOT_ERROR: gunicorn exits instead of starting the worker again and again


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How long the server waits, in seconds.

    Attributes:
        receive_timeout_s: for a request's head, and again for its body.
        keepalive_s: for the next request on a connection.
        grace_s: after SIGTERM requests are still taken for this long.
        finish_s: then those in flight have this long to be answered.
    """

    receive_timeout_s: float
    keepalive_s: float
    grace_s: float
    finish_s: float


def server_limits(settings: Settings) -> ServerLimits:
    """Return how long the server waits."""
    return ServerLimits(settings.receive_timeout_s, settings.keepalive_s, settings.shutdown_grace_s, finish_s(settings))


@dataclass(frozen=True, slots=True)
class Service:
    """A running collector.

    Attributes:
        app: the application, for any WSGI server.
        handle: the same for an event loop.
        load_bound: how much it does at once.
        limits: how long the server waits for clients.
        drain: says from now on that the process is going away; it serves on. Safe in a signal handler.
        close: drains and closes it; once more does nothing.
    """

    app: Flask
    handle: RequestHandler
    load_bound: LoadBound
    limits: ServerLimits
    drain: Callable[[], None]
    close: Callable[[], None]


@contextmanager
def build(settings: Settings) -> Iterator[Service]:
    """Compose a collector. Call it after the fork: it starts the producer's threads."""
    with ExitStack() as stack:
        prometheus = PrometheusMetrics(LIBRARY_VERSION)
        prometheus.set("processes", 1)
        prometheus.set("spool_bytes_max", settings.spool_bytes_max)
        clients = ClientCounters(prometheus.clients)
        stack.enter_context(reporting(prometheus, (prometheus.refresh, clients.flush)))
        counters = EventCounters(prometheus)
        stack.callback(_log_final_counts, counters)
        publisher = stack.enter_context(open_publisher(settings, counters))
        threads = stack.enter_context(ThreadPoolExecutor(settings.threads, "bodies"))
        pages = stack.enter_context(ThreadPoolExecutor(_PAGE_THREADS, "pages"))
        schema = read_schema("event")
        schemas = open_schemas(registry_access(settings), Path(settings.schema_cache_dir), settings.topic)
        catalogue = open_catalogue(settings.catalogue_file)
        encoder = Encoder(schema, schemas.id_of(schema))
        validator = _validator(settings, catalogue)
        collector = Collector(validator, encoder, publisher, clients, is_compiled=settings.compiled)
        prometheus.set("processes_compiled", collector.is_compiled)
        _log_code(is_compiled=collector.is_compiled, is_wanted=settings.compiled)
        policies = _policies(settings, prometheus)
        endpoints = CollectEndpoints(
            collector, policies.access_control, _body_reader(settings), policies.load_bound, prometheus, threads
        )
        app = create_app(endpoints, collector.is_ready)
        has_port = bool(settings.operations_port)
        interface = describe(catalogue, event_limits(settings), body_limits(settings), has_operations_port=has_port)
        add_links(app, has_operations_port=has_port)
        add_pages(app, prometheus, interface)
        add_browser_client(app, read_browser_client())
        routes = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
        middleware = RequestMiddleware(routes, counters, policies)
        handle = RequestHandler(middleware, endpoints, app.wsgi_app, pages)
        app.wsgi_app = WsgiDoor(app.wsgi_app, middleware)  # type: ignore[method-assign]  # Flask's way
        yield Service(app, handle, policies.load_bound, server_limits(settings), publisher.drain, stack.close)


def _policies(settings: Settings, metrics: Metrics) -> RequestPolicies:
    return RequestPolicies(
        _access_control(settings, metrics),
        LoadBound(settings.requests_max, settings.queue_wait_s),
        ProxyPolicy(read_networks(settings.trusted_proxies), settings.ip_privacy, settings.honour_privacy_signals),
        CorsPolicy(read_origins(settings.allowed_origins)),
        OperationsPort(settings.operations_port),
        open_spans(),
    )


def _log_code(*, is_compiled: bool, is_wanted: bool) -> None:
    """Log what of this process's way of an event is compiled."""
    level = logging.INFO if is_compiled or not is_wanted else logging.WARNING
    log.log(level, "events are written with %s", "compiled code" if is_compiled else "Python alone")
    file = str(sys.modules[RequestHandler.__module__].__file__)
    log.info("requests are handled by %s", "Python alone" if file.endswith(".py") else "compiled code")


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
    # Loading the client of Redis takes a quarter of a start's processor time, and 7 MB.
    from ingest.access.rate_limit_redis import SharedLimiter, open_store  # noqa: PLC0415  (only where there is a store)

    store, options = open_store(store_access(settings), settings.rate_limit_store_timeout_ms / 1000)
    prefix = f"headrace:{settings.environment}:used:"
    return SharedLimiter(store, prefix, settings.rate_limit_window_s, metrics, options)


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
    """Return the application of one gunicorn worker, which calls this after the fork; `service_of` has the rest."""
    settings = load(os.environ)
    start_logging(settings.log_level, settings.log_lines_per_s, refusals=settings.log_refusals)
    stack = ExitStack()
    try:
        service = stack.enter_context(build(settings))
    except (RegistryAwayError, ValueError) as error:  # the operator needs the sentence, not a traceback
        log.critical("the collector can't start", extra={"reason": str(error)})
        raise SystemExit(_CANNOT_START) from error
    service.app.extensions[_EXTENSION] = replace(service, close=stack.close)
    return service.app


def service_of(app: Flask) -> Service:
    """Return what `open_app` opened."""
    service: Service = app.extensions[_EXTENSION]
    return service
