"""Sends events to a headrace collector from Python, with the standard library only.

    with Client("https://collect.example.com", client_id="shop") as client:
        client.track("PURCHASE", userId="u1", amount=9.5)

`track` returns at once. A thread sends batches, and sends each again until the collector has answered 201; an event
keeps its id, so a retry is no second event. The queue lives in memory: `close` returns what was not delivered. Make one
client per process, after a fork. docs/CLIENTS.md says what each status means.
"""

import http.client
import json
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

Event = dict[str, Any]

log = logging.getLogger(__name__)

_BATCH_EVENTS_MAX: Final = 100  # the collector takes 500
_BATCH_BYTES_MAX: Final = 500_000  # the collector takes 1 MiB
_PAUSE_S_MAX: Final = 60.0
_RETRY_AFTER_S_MAX: Final = 3600.0
_MISTAKES: Final = (401, 403, 404, 405, 415)  # of who set the client up: the key, clientId or url is wrong
_FULL: Final = "the queue is full"
_CLOSED: Final = "the client was closed before an answer confirmed it"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that no answer has confirmed; `reason` says why.

    An event that the collector refused needs a repair. One that was left over may be sent again as it is, with its
    eventId: if it arrived after all, it stays one event.
    """

    event: Event
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the collector; status 0 when there was none."""

    status: int = 0
    document: Any = None
    retry_after_s: float = 0.0


class Transport(Protocol):
    """Posts one request."""

    def post(self, body: bytes) -> Answer:
        """Return the answer; never raises."""

    def close(self) -> None:
        """Close the connection."""


class HttpTransport:
    """One connection that is kept open; one thread uses it.

    Args:
        url: the collector, http(s)://host:port; a path before /collect/event may follow.
        key: for X-API-Key; "" where no keys are in use.
        timeout_s: for connecting, and for each read.
    """

    def __init__(self, url: str, key: str = "", timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _is_path(parts.path):
            raise ValueError(f"the url must be http(s)://host:port, got {url!r}")
        if not key.isascii() or not key.isprintable():
            raise ValueError("the key must be printable ASCII")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._path = f"{parts.path.rstrip('/')}/collect/event"
        self._headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})

    def post(self, body: bytes) -> Answer:
        """Return the answer; any failure of the connection is status 0, and the next request opens a new one."""
        is_reused = self._connection.sock is not None
        answer = self._post_once(body)
        # The collector closes connections that were idle.
        return self._post_once(body) if is_reused and not answer.status else answer

    def _post_once(self, body: bytes) -> Answer:
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, _json_of(answer.read()), _seconds(answer.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException, ValueError):  # ValueError: the host's name can't be looked up
            self._connection.close()
            return Answer()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Client:
    """Queues events and sends them in the background. Threads share it.

    Args:
        url: the collector, http(s)://host:port.
        client_id: the clientId of events that name none.
        key: the API key, where keys are in use.
        queue_max: events that wait at most; further ones are undelivered at once.
        flush_s: how long events are gathered.
        backoff_s: the first pause after a failure; it doubles up to a minute, but is no shorter than a Retry-After.
        on_refused: hears of each event that is given up, in the sending thread or in that of `track`.
        transport: for tests.

    Raises:
        ValueError: the url or the key is not one.
    """

    def __init__(  # noqa: PLR0913  (each has a default)
        self,
        url: str,
        *,
        client_id: str = "",
        key: str = "",
        queue_max: int = 10_000,
        flush_s: float = 1.0,
        backoff_s: float = 0.5,
        on_refused: Callable[[Undelivered], None] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._transport = transport or HttpTransport(url, key)
        self._client_id = client_id
        self._queue_max = queue_max
        self._flush_s = flush_s
        self._backoff_s = backoff_s
        self._on_refused = on_refused
        self._queue: deque[tuple[Event, bytes]] = deque()
        self._refused: deque[Undelivered] = deque(maxlen=queue_max)
        self._batch_max = _BATCH_EVENTS_MAX
        self._failures = 0
        self._changed = threading.Condition()
        self._is_hurried = self._is_closing = self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="headrace-client", daemon=True)
        self._thread.start()

    def track(self, event_type: str, fields: Mapping[str, Any] | None = None, /, **more: Any) -> str:
        """Queue an event and return its eventId. It gets an eventId, a timestamp and a clientId unless it names them.

        Raises:
            TypeError, ValueError: a value is not JSON.
            RuntimeError: the client is closed.
        """
        own = {"eventType": event_type, "timestamp": int(time.time() * 1000)}
        named = {"clientId": self._client_id} if self._client_id else {}
        event = own | named | dict(fields or {}) | more
        event["eventId"] = event.get("eventId") or str(new_id())  # None is absent: each retry would be another event
        text = json.dumps(event, allow_nan=False).encode()
        with self._changed:
            if self._is_closing:
                raise RuntimeError("the client is closed")
            is_full = len(self._queue) >= self._queue_max
            if not is_full:
                self._queue.append((event, text))
                self._changed.notify_all()
        if is_full:
            self._give_up(event, _FULL)
        return str(event["eventId"])

    @property
    def pending(self) -> int:
        """How many events no answer has confirmed yet."""
        return len(self._queue)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Send now and wait until the queue is empty; False when it is not in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._is_hurried = bool(self._queue)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queue, max(0.0, deadline_s - time.monotonic()))

    def close(self, timeout_s: float = 30.0) -> list[Undelivered]:
        """Send what is queued, stop, and return every event that was not delivered: refused ones first.

        It may take longer than `timeout_s` by the transport's timeout, when a request is under way. Of refused events
        the last `queue_max` are returned. A second call returns the same.
        """
        with self._changed:
            self._is_closing = True
        self.flush(timeout_s)
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._transport.close()
        undelivered = [*self._refused, *(Undelivered(event, _CLOSED) for event, _ in self._queue)]
        if undelivered:
            log.warning("%d events were not delivered; first: %s", len(undelivered), undelivered[0].reason)
        return undelivered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while self._await_batch():
            pause_s = self._settle(self._batch())
            if pause_s:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopped, pause_s)

    def _await_batch(self) -> bool:
        """Wait until a batch is due; False when there is nothing left to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_stopped)
            self._changed.wait_for(self._is_due, self._flush_s)
            return bool(self._queue) and not self._is_stopped

    def _is_due(self) -> bool:
        return self._is_hurried or self._is_stopped or self._failures > 0 or len(self._queue) >= self._batch_max

    def _batch(self) -> list[tuple[Event, bytes]]:
        """Return the first events of the queue, at least one; they stay there until an answer settles them."""
        batch: list[tuple[Event, bytes]] = []
        size_bytes = 0
        with self._changed:
            for item in self._queue:
                size_bytes += len(item[1]) + 1
                if batch and (len(batch) >= self._batch_max or size_bytes > _BATCH_BYTES_MAX):
                    break
                batch.append(item)
        return batch

    def _settle(self, batch: list[tuple[Event, bytes]]) -> float:
        """Send a batch, do what its answer asks for, and return the pause before the next one, in seconds."""
        body = b'{"messageBody":[' + b",".join(text for _, text in batch) + b"]}"
        answer = self._transport.post(body)
        if answer.status == HTTPStatus.CREATED:
            self._remove(len(batch), {})
            self._batch_max, self._failures = _BATCH_EVENTS_MAX, 0
            return 0.0
        if _is_refusal(answer):
            self._refuse(batch, answer.document)
            return 0.0
        if answer.status in _MISTAKES and not self._failures:
            log.error("the collector answers %d, events wait: %s", answer.status, answer.document)
        self._failures += 1
        pause_s = min(self._backoff_s * 2.0 ** min(self._failures - 1, 16), _PAUSE_S_MAX)
        return max(pause_s * random.uniform(0.5, 1), answer.retry_after_s)  # noqa: S311  (it spreads clients)

    def _refuse(self, batch: list[tuple[Event, bytes]], document: Mapping[str, Any]) -> None:
        """Nothing of a refused request was taken: drop the events that it names, or find the bad one by halves."""
        faults = {
            fault["index"]: str(fault.get("message"))
            for fault in reversed(document.get("details") or ())
            if isinstance(fault.get("index"), int) and 0 <= fault["index"] < len(batch)
        }
        if not faults and len(batch) > 1:
            self._batch_max = len(batch) // 2
            return
        self._remove(len(batch), faults or {0: str(document.get("message"))}, keep_others=True)

    def _remove(self, count: int, faults: Mapping[int, str], *, keep_others: bool = False) -> None:
        """Take a settled batch out of the queue; with `keep_others` only the events with a fault."""
        with self._changed:
            batch = [self._queue.popleft() for _ in range(count)]
            if keep_others:
                self._queue.extendleft(item for index, item in reversed(list(enumerate(batch))) if index not in faults)
            self._is_hurried = self._is_hurried and bool(self._queue)
            self._changed.notify_all()
        for index, message in sorted(faults.items()):
            self._give_up(batch[index][0], message)

    def _give_up(self, event: Event, reason: str) -> None:
        undelivered = Undelivered(event, reason)
        self._refused.append(undelivered)
        try:
            if self._on_refused is not None:
                self._on_refused(undelivered)
        except Exception:  # the thread goes on with the other events
            log.exception("on_refused failed")


def new_id() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): the collector's table is sorted by time then."""
    value = (time.time_ns() // 1_000_000 << 80) | random.SystemRandom().getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _is_refusal(answer: Answer) -> bool:
    """Tell whether the collector itself refused the events; a proxy's page of the same status is an outage."""
    is_ours = isinstance(answer.document, dict) and answer.document.get("statusCode") == answer.status
    return is_ours and answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _is_path(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _json_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _seconds(retry_after: str | None) -> float:
    """Return a Retry-After in whole seconds, at most an hour; 0 for none, and for a date."""
    text = (retry_after or "").strip()
    return min(float(text), _RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() else 0.0
