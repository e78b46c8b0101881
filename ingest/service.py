"""The composition root: settings in, a running collector out. Leaving the block drains and closes, in reverse order."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flask import Flask

from ingest.address import read_networks
from ingest.app import Collector, create_app
from ingest.browsers import CrossOrigin, read_origins
from ingest.door import Door, Origins
from ingest.intake import Intake, Limits
from ingest.kafka import KafkaPublisher, read_properties
from ingest.ledger import Ledger
from ingest.logs import start_logging
from ingest.pages import add_pages
from ingest.settings import Settings, load
from ingest.telemetry import Telemetry
from schemas.codec import Encoder, read_schema
from schemas.event import read_catalogue
from schemas.registry import open_schemas

log = logging.getLogger(__name__)


@contextmanager
def build(settings: Settings) -> Iterator[Flask]:
    """Wire a collector. Call it after the fork: it starts the producer's threads."""
    with ExitStack() as stack:
        telemetry = Telemetry()
        ledger = Ledger(telemetry)
        stack.callback(_close_books, ledger)
        publisher = KafkaPublisher(
            _producer_properties(settings), settings.topic, settings.answer_deadline_s, settings.queue_bytes_max, ledger
        )
        stack.callback(publisher.close)
        schema = read_schema("event")
        schemas = open_schemas(settings.schema_registry_url, Path(settings.schema_cache_dir), settings.topic)
        intake = Intake(read_catalogue(), _limits(settings), settings.environment)
        collector = Collector(intake, Encoder(schema, schemas.id_of(schema)), publisher)
        app = create_app(collector, settings.body_bytes_max)
        add_pages(app, telemetry)
        _hang_door(app, settings, ledger)
        yield app


def _hang_door(app: Flask, settings: Settings, ledger: Ledger) -> None:
    """Put the door in front of the application's routes."""
    routes = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
    origins = Origins(read_networks(settings.trusted_proxies), settings.ip_privacy, settings.honour_privacy_signals)
    cross_origin = CrossOrigin(read_origins(settings.allowed_origins))
    app.wsgi_app = Door(app.wsgi_app, routes, ledger, origins, cross_origin)  # type: ignore[method-assign]  # Flask's way


def _close_books(ledger: Ledger) -> None:
    """Log the process's accounts; the last line that a worker writes."""
    figures = ledger.figures()
    log.log(logging.INFO if figures["balanced"] else logging.ERROR, "books closed", extra=figures)


def _producer_properties(settings: Settings) -> dict[str, object]:
    return {
        **read_properties(settings.kafka_config_file),
        "bootstrap.servers": settings.bootstrap_servers,
        "linger.ms": settings.linger_ms,
        "message.timeout.ms": settings.delivery_timeout_ms,
        "client.id": "headrace-ingest",
    }


def _limits(settings: Settings) -> Limits:
    return Limits(
        events_max=settings.events_max,
        event_bytes_max=settings.event_bytes_max,
        headers_bytes_max=settings.headers_bytes_max,
        depth_max=settings.depth_max,
        clock_past_ms_max=settings.clock_past_s_max * 1000,
        clock_future_ms_max=settings.clock_future_s_max * 1000,
    )


def open_app() -> Flask:
    """Return the application of one gunicorn worker, which calls this after the fork; `close_app` is its other end."""
    settings = load(os.environ)
    start_logging(settings.log_level, refusals=settings.log_refusals)
    stack = ExitStack()
    app = stack.enter_context(build(settings))
    app.extensions["headrace"] = stack
    log.info("collector open to every client", extra={"topic": settings.topic, "environment": settings.environment})
    return app


def close_app(app: Flask) -> None:
    """Drain and close what `open_app` opened."""
    app.extensions["headrace"].close()
