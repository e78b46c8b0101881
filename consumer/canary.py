"""The command canary of `python -m consumer`: sends synthetic events and measures when their rows can be selected."""

import json
import logging
import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Final

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from consumer.clickhouse.client import Connection
from consumer.errors import Misconfigured
from consumer.metrics import CONTENT_TYPE, PrometheusMetrics
from consumer.operations.background import in_background
from consumer.operations.canary import CLIENT_ID, METRICS, PREFIX, Canary, Outcome
from consumer.pages import JSON, body_of, serving
from consumer.parts import connect
from consumer.settings import PREFIX as SETTING
from consumer.settings import Settings, canary_access
from schemas.transport.tls import text_of

log = logging.getLogger(__name__)

CANARY: Final = f"""
Sends a synthetic event to the collector every few seconds, and looks for its row: how long that
takes is the freshness that readers of the tables have. It says so on /metrics (headrace_canary_…,
docs/SLO.md), at CONSUMER_HTTP_PORT. One canary is enough.

Its events have the clientId {CLIENT_ID}; the views for analysts leave them out. With a client
registry give it an entry of that name, and its key in CONSUMER_CANARY_KEY_FILE. It needs SELECT on
`events` (on a cluster `events_all`) and nothing else. A collector or a ClickHouse that is away never
stops it.

  CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 CONSUMER_CANARY_URL=http://ingest:8080 \\
      CONSUMER_HTTP_PORT=8082 python -m consumer canary
"""
_ROUTE: Final = "/collect/event"
_ANSWER_S: Final = 10.0  # the collector answers within INGEST_ANSWER_DEADLINE_S and INGEST_SPOOL_DEADLINE_S, 7 s
_LOOK_EVERY_S: Final = 0.25  # so much too long a freshness may be measured
_LOOK_S: Final = 10.0
_STUCK_S: Final = 60.0
_FOUND: Final = "SELECT toString(event_id) AS id FROM {of_events:Identifier} WHERE event_id IN {ids:Array(UUID)}"


def run_canary(settings: Settings, _: Namespace) -> int:
    """Send and look until SIGTERM or SIGINT.

    Raises:
        Misconfigured: a setting is wrong, or a file that it names.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = PrometheusMetrics(METRICS, PREFIX)
    collector = CollectorClient(settings)
    canary = Canary(
        collector.post, finder(connect(settings).patient(_LOOK_S)), metrics, settings.canary_patience_s, monotonic
    )
    pages = CanaryPages(metrics, monotonic)
    with (
        serving(settings.http_host, settings.http_port, pages),
        in_background("canary", canary.send, settings.canary_every_s),
    ):
        log.info("canary started", extra={"collector": settings.canary_url, "every_s": settings.canary_every_s})
        while not stop.wait(_LOOK_EVERY_S):
            canary.look()
            pages.turned()
    return 0


def finder(connection: Connection) -> Callable[[Collection[str]], set[str]]:
    """Return what looks for rows of events, by their ids."""
    names = connection.layout.names("events")

    def find(event_ids: Collection[str]) -> set[str]:
        """Ask by the table's key, so that a look reads one granule for each event, however large the table is."""
        return {str(row["id"]) for row in connection.query(_FOUND, names | {"ids": list(event_ids)})}

    return find


class CollectorClient:
    """Posts single events to the collector.

    Raises:
        Misconfigured: the URL is missing, or a file can't be read.
    """

    def __init__(self, settings: Settings) -> None:
        access = canary_access(settings)
        if not access.url:
            raise Misconfigured(f"{SETTING}CANARY_URL: is required by the canary")
        self._url = access.url.rstrip("/") + _ROUTE
        self._headers = {"Content-Type": "application/json", "User-Agent": CLIENT_ID}
        try:
            if settings.canary_key_file:
                self._headers["X-API-Key"] = text_of(settings.canary_key_file).strip()
            trust = access.tls.context() if self._url.startswith("https:") else None
        except ValueError as error:
            known = str(error).startswith(SETTING)
            raise Misconfigured(str(error) if known else f"{SETTING}CANARY_KEY_FILE: {error}") from error
        self._pool = PoolManager(retries=False, timeout=Timeout(_ANSWER_S), ssl_context=trust)
        self._said = ""

    def post(self, event: Mapping[str, str]) -> Outcome:
        """Send an event and return how the collector answered; logs what is wrong once."""
        body = json.dumps({"messageBody": [event]}).encode()
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers)
        except HTTPError as error:
            return self._note(Outcome.UNANSWERED, type(error).__name__)
        if answer.status == HTTPStatus.CREATED:
            return self._note(Outcome.ACCEPTED, "")
        return self._note(Outcome.REFUSED, f"status {answer.status}")

    def _note(self, outcome: Outcome, trouble: str) -> Outcome:
        if trouble and trouble != self._said:
            log.warning("the collector did not accept the canary's event", extra={"reason": trouble})
        self._said = trouble
        return outcome


class CanaryPages:
    """The canary's /metrics, and /healthz and /readyz, which fail only when it no longer looks."""

    def __init__(self, metrics: PrometheusMetrics, now_s: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now_s = now_s
        self._turned_s = now_s()

    def turned(self) -> None:
        """Record that it has looked."""
        self._turned_s = self._now_s()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._metrics.page()
        if path not in {"/healthz", "/readyz"}:
            return 404, JSON, body_of("not found", "there are /metrics, /healthz and /readyz")
        stood_s = self._now_s() - self._turned_s
        if stood_s > _STUCK_S:
            return 503, JSON, body_of("stuck", f"it has not looked into the table for {stood_s:.0f} s")
        return 200, JSON, body_of("ready", "it sends and looks")
