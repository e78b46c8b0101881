"""What ops see of a running collector: merged figures, balanced books, JSON lines, and one id from client to record."""

import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Message, TopicPartition

from schemas.codec import FRAME_BYTES, decode, read_schema
from tests.support.collector import Collector, collector
from tests.support.freezing import freeze
from tests.support.kafka import Broker
from tests.support.kafka_clients import consumer, read

VIEW: Final = {"eventType": "VIEW"}
BAD: Final = {"eventType": "NOTHING"}
TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT: Final = f"00-{TRACE_ID}-b7ad6b7169203331-01"
SECRET: Final = "s3cret-value"  # noqa: S105  (what must not be found in the log)
WAIT_S: Final = 60.0


@pytest.fixture
def topics(embedded_broker: Broker) -> dict[str, str]:
    """Topics of the test's own, as settings."""
    names = {name: f"test-{uuid.uuid4().hex[:12]}" for name in ("topic", "dead_letter_topic")}
    for name in names.values():
        embedded_broker.create_topic(name)
    return names


@pytest.fixture
def run(embedded_broker: Broker, topics: dict[str, str]) -> Callable[..., Any]:
    """Return a function that runs a collector with more settings."""
    return lambda **settings: collector(embedded_broker.bootstrap_servers, **topics, **settings)


def events_of(records: list[Message]) -> list[dict[str, Any]]:
    """Return the events of records."""
    schema = read_schema("event")
    return [decode((record.value() or b"")[FRAME_BYTES:], schema) for record in records]


@pytest.fixture
def records_of(embedded_broker: Broker, topics: dict[str, str]) -> Iterator[Callable[[int], list[Message]]]:
    """Return a function that reads the first records of the test's topic."""
    reader = consumer(embedded_broker, "unused")
    reader.assign([TopicPartition(topics["topic"], 0, 0)])
    yield lambda count: read(reader, count)
    reader.close()


def outcomes_of(running: Collector) -> dict[str, float]:
    """Return headrace_ingest_events_total by outcome."""
    pattern = re.compile(r'headrace_ingest_events_total\{outcome="(\w+)"\}')
    return {match[1]: value for name, value in running.figures().items() if (match := pattern.fullmatch(name))}


def await_workers(running: Collector, condition: Callable[[set[int]], bool]) -> set[int]:
    """Wait until the workers' process ids are as they should be, and return them."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        pids = set(running.worker_pids)
        if condition(pids):
            return pids
        time.sleep(0.05)
    raise TimeoutError(f"the workers are {running.worker_pids}")


def test_figures_are_those_of_all_workers(run: Callable[..., Any]) -> None:
    """Whichever worker answers, a scrape counts what all of them did, and what one did that was killed since."""
    with run(workers=2) as running:
        workers = await_workers(running, lambda pids: len(pids) == 2)
        _answer_from_each(running, workers)
        before = outcomes_of(running)
        killed = workers.pop()
        os.kill(killed, signal.SIGKILL)
        await_workers(running, lambda pids: killed not in pids and len(pids) == 2)
        running.await_ready()
        assert running.post([VIEW]).status == 201
        time.sleep(2)  # what a worker has in flight is up to a second old for a scrape that another one answers
        figures, after = running.figures(), outcomes_of(running)

    assert before["received"] == before["accepted"] == before["delivered"] >= 2
    assert after["delivered"] == before["delivered"] + 1
    assert figures["headrace_ingest_requests_in_flight"] == 1  # the scrape itself
    assert figures["headrace_ingest_events_in_flight"] == 0


def test_dead_workers_leave_no_files_behind(run: Callable[..., Any]) -> None:
    """Their successors continue in their files: however often they die, the counts stay and the files are as many."""
    with run() as running:
        assert running.post([VIEW]).status == 201
        (killed,) = running.worker_pids
        directory = _counters_of(killed)
        files = {path.name for path in directory.iterdir()}
        for _ in range(3):
            os.kill(killed, signal.SIGKILL)
            (killed,) = await_workers(running, lambda pids, last=killed: len(pids) == 1 and last not in pids)  # type: ignore[misc]  # a default that binds
            running.await_ready()
            assert running.post([VIEW]).status == 201
        figures = running.figures()

        assert {path.name for path in directory.iterdir()} == files
    assert figures['headrace_ingest_events_total{outcome="delivered"}'] == 4
    assert figures["headrace_ingest_acknowledgement_seconds_count"] == 4
    assert figures["headrace_ingest_requests_in_flight"] == 1


def _answer_from_each(running: Collector, workers: set[int]) -> None:
    """Have each worker take an event: while the others are frozen, it is the one that answers."""
    for pid in workers:
        others = workers - {pid}
        for other in others:
            freeze(other)
        try:
            assert running.post([VIEW]).status == 201
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)


def test_one_worker_counts_the_same_way(run: Callable[..., Any]) -> None:
    """With a single process nothing is different, and its files are gone with it."""
    with run(workers=1) as running:
        assert running.post([VIEW, VIEW]).status == 201
        (pid,) = running.worker_pids
        directory = _counters_of(pid)
        figures = running.figures()

        assert directory.is_dir()
        assert figures['headrace_ingest_events_total{outcome="delivered"}'] == 2
        assert figures["headrace_ingest_acknowledgement_seconds_count"] == 1
        assert figures['headrace_ingest_body_bytes_count{form="sent"}'] == 1
    assert not directory.exists()


def _counters_of(pid: int) -> Path:
    """Return the directory of the files that a worker counts in."""
    mapped = re.search(r"(/\S*headrace-metrics-\w+)/counter_\d+\.db", Path(f"/proc/{pid}/maps").read_text())
    assert mapped is not None
    return Path(mapped[1])


def test_the_books_balance_over_every_kind_of_request(run: Callable[..., Any]) -> None:
    """Good, bad, lenient, unreadable, unknown and limited requests: metrics and last lines account for each event."""
    with run(workers=2, rate_limit_requests=8, rate_limit_window_s=3600) as running:
        workers = await_workers(running, lambda pids: len(pids) == 2)
        statuses = [
            *(running.post([VIEW] * 3).status for _ in range(4)),
            running.post([VIEW, BAD]).status,
            running.post([VIEW, VIEW, BAD], Prefer="handling=lenient").status,
            running.ask("POST", "/collect/event", b"{").status,
            running.ask("GET", "/collect/event").status,
            running.ask("POST", "/collect/validate", b'{"messageBody": [{"eventType": "VIEW"}]}').status,
            *(running.post([VIEW]).status for _ in range(20)),
        ]
        figures = outcomes_of(running)
        running.stop()
        lines = running.log_lines()

    # Each process counts the limit by itself, so at least 8 and at most 16 requests are let pass.
    assert {201, 400, 405, 429} <= set(statuses)
    taken, limited = statuses[9:].count(201), statuses[9:].count(429)
    expected = _expected(statuses)
    assert {name: figures[name] for name in expected} == expected
    assert taken + limited == 20
    _assert_last_lines(lines, workers, expected)


def _expected(statuses: list[int]) -> dict[str, float]:
    """Return the counts that follow from the statuses of the mix above; a limited request is one event."""
    sizes = [3, 3, 3, 3, 2, 3, 1, 0, 0, *[1] * 20]
    accepted = limited = refused = 0
    for size, status in zip(sizes, statuses, strict=True):
        if status == 429:
            limited += 1 if size else 0
        elif status == 201:
            accepted += size
        else:
            refused += size
    if statuses[5] == 201:  # the lenient one
        accepted, refused = accepted - 1, refused + 1
    return {
        "received": accepted + refused + limited,
        "accepted": accepted,
        "refused": refused,
        "limited": limited,
        "delivered": accepted,
        "spooled": 0,
        "shed": 0,
        "orphaned": 0,
    }


def _assert_last_lines(lines: list[dict[str, Any]], workers: set[int], expected: dict[str, float]) -> None:
    """Each worker says its counts once, when it ends; they balance, and their sums are the metrics."""
    said = [line for line in lines if line["message"] == "final event counts"]
    assert sorted(line["pid"] for line in said) == sorted(workers)
    assert all(line["balanced"] is True and line["in_flight"] == 0 for line in said)
    assert {name: sum(line[name] for line in said) for name in expected} == expected


def test_one_id_leads_from_the_client_to_the_record(
    run: Callable[..., Any], records_of: Callable[[int], list[Message]]
) -> None:
    """A caller's trace goes into the event and, as a header, with the record; without one the request's id does."""
    with run() as running:
        running.post([VIEW], traceparent=TRACEPARENT)
        answer = running.post([VIEW], traceparent="00-nonsense")
        traced, named = records_of(2)

    assert traced.headers() == [("traceparent", TRACEPARENT.encode())]
    assert not named.headers()
    assert [event["traceId"] for event in events_of([traced, named])] == [TRACE_ID, answer.headers["x-request-id"]]


def test_records_hold_the_private_form_of_the_clients_address(
    run: Callable[..., Any], records_of: Callable[[int], list[Message]]
) -> None:
    """Behind a trusted proxy: truncated as the setting says, and nothing at all with a privacy signal."""
    with run(trusted_proxies="127.0.0.0/8", ip_privacy="truncated") as running:
        running.post([VIEW], X_Forwarded_For="6.6.6.6, 203.0.113.77", User_Agent="Browser/1")
        running.post([VIEW], X_Forwarded_For="2001:db8:1:2::3", User_Agent="Browser/1")
        running.post([VIEW], X_Forwarded_For="203.0.113.77", Sec_GPC="1", User_Agent="Browser/1")
        events = events_of(records_of(3))

    assert [event["ip"] for event in events] == ["203.0.113.0", "2001:db8:1::", ""]
    assert [event["userAgent"] for event in events] == ["Browser/1", "Browser/1", ""]


def test_a_refused_request_leaves_one_line_and_no_secret(run: Callable[..., Any]) -> None:
    """Payloads, keys and headers of refused and of unreadable requests are nowhere in the log; every line is JSON."""
    with run(ip_privacy="none") as running:
        named = {"X-Request-Id": "mine-1", "X-API-Key": SECRET, "Authorization": f"Bearer {SECRET}"}
        running.ask("POST", f"/collect/event?key={SECRET}", f'{{"messageBody": "{SECRET}"}}'.encode(), named)
        running.ask("GET", f"/{SECRET}?key={SECRET}")
        for broken in (f"GET /?key={SECRET} HTTP/9.9\r\n\r\n", f"GET / HTTP/1.1\r\nX-API-Key {SECRET}\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", running.port), WAIT_S) as connection:
                connection.sendall(broken.encode())
                connection.settimeout(WAIT_S)
                assert connection.recv(4096).startswith(b"HTTP/1.1 4")
        running.stop()
        lines = running.log_lines()

    (line,) = (line for line in lines if line.get("request_id") == "mine-1")
    assert (line["status"], line["outcome"], line["route"]) == (400, "no_events", "/collect/event")
    assert SECRET not in str(lines)
    assert "127.0.0.1" not in str([line for line in lines if line["logger"] != "gunicorn.error"])


def test_refusals_can_be_silenced(run: Callable[..., Any]) -> None:
    """At high rates the lines can be switched off; the metrics count all the same."""
    with run(log_refusals="false") as running:
        assert running.post([BAD]).status == 400
        figures = running.figures()
        running.stop()
        lines = running.log_lines()

    assert figures['headrace_ingest_requests_total{outcome="bad_event_enum",route="/collect/event",status="400"}'] == 1
    assert not any(line["logger"] == "headrace.refusals" for line in lines)
    assert any(line["message"] == "final event counts" for line in lines)
