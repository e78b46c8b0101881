"""The contract's answers that depend on more than one request: the rate limit, retries, failures, and time."""

import http.client
import socket
import time
from collections.abc import Iterator
from typing import Final

import pytest
from werkzeug.exceptions import NotFound

from ingest.access.control import AccessControl
from ingest.access.rate_limit import Allowance, LocalLimiter
from ingest.errors import Unavailable
from tests.contract.rows import JSON, Row, error, request
from tests.contract.rows_of_events import BAD, VIEW
from tests.contract.test_http import House, InProcess, OnGunicorn
from tests.support.collector import Answer, Collector, collector
from tests.support.front import Shelf, front
from tests.support.kafka import EmbeddedKafka
from tests.support.log_members import until
from tests.support.mock_cluster import MockCluster

MIB: Final = 1024 * 1024
ONE: Final = request(VIEW)


@pytest.fixture(params=["in this process", "on gunicorn"])
def limited(request: pytest.FixtureRequest) -> Iterator[House]:
    """A collector that takes three requests an hour from each address."""
    if request.param == "in this process":
        house = InProcess("")
        house.use(front(house.shelf, AccessControl(None, LocalLimiter(3600), Allowance(3))))
        yield house
        return
    broker: EmbeddedKafka = request.getfixturevalue("embedded_broker")
    with collector(broker.bootstrap_servers, rate_limit_requests=3, rate_limit_window_s=3600) as running:
        yield OnGunicorn(running)


def test_every_answer_counts_until_the_limit(limited: House) -> None:
    """201, 400 and 405 alike; then 429 with the wait, whatever is asked; probes are not counted."""
    rows = [
        Row("taken", 201, ONE),
        Row("refused", 400, request(BAD)),
        Row("not a route's method", 405, method="GET"),
        Row("limited", 429, ONE),
        Row("limited before the type is looked at", 429, ONE, headers={"Content-Type": "text/csv"}),
        Row("limited in a dry run", 429, ONE, path="/collect/validate"),
        Row("a probe", 200, method="GET", path="/healthz"),
    ]
    start_s = time.time()
    answers = [limited.ask(row) for row in rows]

    for row, answer in zip(rows, answers, strict=True):
        row.check(answer)
    counted = answers[:6]
    assert [answer.headers["x-ratelimit-remaining"] for answer in counted] == ["2", "1", "0", "0", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in counted} == {"3"}
    (reset_s,) = {int(answer.headers["x-ratelimit-reset"]) for answer in counted}
    assert start_s + 3600 <= reset_s <= time.time() + 3601
    for answer in answers[3:6]:
        wait_s = int(answer.headers["retry-after"])
        assert 3590 <= wait_s <= 3601
        assert answer.json == error(429, f"the limit of 3 requests is reached, try again in {wait_s} s")
    assert "retry-after" not in answers[0].headers


@pytest.mark.parametrize("path", ["/collect/event", "/collect/validate"])
@pytest.mark.parametrize(
    ("allowance", "body", "says"),
    [
        (Allowance(100, events=6), request(VIEW, VIEW, VIEW), "6 events"),
        (Allowance(100, events=6), request(VIEW, BAD, VIEW), "6 events"),
        (Allowance(100, size_bytes=2000), b"{" + b" " * 999, "2000 bytes of events"),
        (Allowance(100, size_bytes=2000), request(VIEW, VIEW, messageHeaders={"a": "x" * 450}), "2000 bytes of events"),
    ],
    ids=["taken", "refused", "no JSON", "copied headers"],
)
def test_a_budget_is_spent_by_what_requests_hold(path: str, allowance: Allowance, body: bytes, says: str) -> None:
    """Whatever their outcome, in a dry run too; then 429, while X-RateLimit-* go on telling of requests."""
    house = InProcess("")
    house.use(front(house.shelf, AccessControl(None, LocalLimiter(3600), allowance)))

    answers = [house.ask(Row("", 0, body, path=path)) for _ in range(3)]

    assert 429 not in {answer.status for answer in answers[:2]}
    assert answers[2].json["message"].startswith(f"the limit of {says} is reached, try again in ")
    assert (answers[2].status, answers[2].headers["x-ratelimit-remaining"]) == (429, "97")
    assert 3590 <= int(answers[2].headers["retry-after"]) <= 3601


def ask(shelf: Shelf, method: str = "POST", path: str = "/collect/event") -> Answer:
    """Ask an application in this process."""
    response = front(shelf).test_client().open(path, method=method, data=ONE)
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers}, response.data)


@pytest.mark.parametrize("failure", [RuntimeError("secret detail"), NotFound("secret detail")])
def test_a_defect_is_a_500_without_a_trace(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a sentence and the request's id; the cause stands in the log under that id."""
    answer = ask(Shelf(failure=failure))

    message = "the collector failed; the log has the cause under this request's id"
    assert (answer.status, answer.json) == (500, error(500, message))
    assert b"secret" not in answer.body
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.__dict__["request_id"] == answer.headers["x-request-id"]


def test_no_durable_place_is_a_503_with_a_wait() -> None:
    """The same request may be sent again after Retry-After."""
    answer = ask(Shelf(failure=Unavailable("no_room", "no room for events", retry_after_s=7)))

    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json == error(503, "no room for events")


def test_not_ready_is_a_503() -> None:
    """A balancer sends no more."""
    answer = ask(Shelf(is_open=False), "GET", "/readyz")

    assert (answer.status, answer.json["statusCode"], answer.headers["retry-after"]) == (503, 503, "1")


@pytest.fixture(scope="module")
def impatient(embedded_broker: EmbeddedKafka) -> Iterator[Collector]:
    """A collector on gunicorn that waits a second for a head or a body."""
    with collector(embedded_broker.bootstrap_servers, receive_timeout_s=1) as running:
        yield running


@pytest.fixture(scope="module")
def patient(embedded_broker: EmbeddedKafka) -> Iterator[Collector]:
    """One that waits longer than a busy machine makes anybody wait."""
    with collector(embedded_broker.bootstrap_servers, receive_timeout_s=120) as running:
        yield running


def converse(running: Collector, *pieces: bytes, pause_s: float = 0.0) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are and return the last answer, once the connection is closed or the answer complete."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
        for piece in pieces:
            try:
                client.sendall(piece)
            except OSError:
                break  # answered and closed already
            time.sleep(pause_s)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


HEAD: Final = b"POST /collect/event HTTP/1.1\r\nHost: x\r\n"
CODINGS: Final = (
    b"gzip, chunked", b"deflate,chunked", b"identity, chunked", b"chunked, gzip", b"gzip", b"identity", b"br", b"",
    b", chunked", b"chunked;q=1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"NONSENSE\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/9.9\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.1\r\nNo colon\r\n\r\n"], 400),
        ([HEAD + b"Content-Length: x\r\n\r\n"], 400),
        ([HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"], 400),
        ([HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"], 400),
        ([HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n"], 400),
        ([HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"], 400),
        *(([HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n"], 501) for coding in CODINGS),
        ([HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], 501),
        ([b"GET /healthz HTTP/1.1\r\n\r\n"], 400),
        ([b"POST /collect/event HTTP/1.1\r\nContent-Length: 0\r\n\r\n"], 400),
        ([b"POST http://a.example/collect/event HTTP/1.1\r\nContent-Length: 0\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.0\r\nHost: a b\r\n\r\n"], 400),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 400),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n"], 400),
        ([HEAD + b"Expect: the unexpected\r\n\r\n"], 417),
        ([b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"], 414),
        ([HEAD + b"User-Agent: \x01\r\n\r\n"], 400),
        ([b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n"], 431),
        ([b"GET /healthz HTTP/1.1\r\n" + b"X: a\r\n" * 101 + b"\r\n"], 431),
        ([HEAD + b"Content-Length: 100\r\n\r\n{"], 408),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"], 408),
        ([HEAD + b"Content-Length: 100000000\r\n\r\n", *[b" " * MIB] * 96], 413),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + b" " * MIB + b"\r\n"] * 96], 413),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 100000000\r\n\r\n", *[b" " * MIB] * 96], 413),
    ],
)
def test_whoever_refuses_answers_in_json(
    patient: Collector, impatient: Collector, pieces: list[bytes], status: int
) -> None:
    """What the server refuses itself looks like what the application refuses, and a 100 MB body is no matter."""
    got, headers, body = converse(impatient if status == 408 else patient, *pieces)

    Row("refused", status).check_error(Answer(got, headers, body))
    assert got == status
    assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("head", "size", "status"),
    [
        (HEAD, 2_000_000, 413),
        (HEAD + b"Content-Type: text/csv\r\n", 100_000, 415),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\n", 100_000, 404),
        (b"PUT /collect/event HTTP/1.1\r\nHost: x\r\n", 100_000, 405),
    ],
)
def test_a_refusal_that_ends_the_connection_says_so(patient: Collector, head: bytes, size: int, status: int) -> None:
    """A client that reads "keep-alive" sends its next request into a connection that is being closed."""
    got, headers, _ = converse(patient, head + b"Content-Length: %d\r\n\r\n" % size, b" " * size)

    assert (got, headers["connection"]) == (status, "close")


def test_behind_a_small_refused_body_the_connection_goes_on(patient: Collector) -> None:
    """It is drained, and the next request of the same client is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", patient.port, timeout=60)
    statuses = []
    try:
        for content_type in ("text/csv", "application/json"):
            connection.request("POST", "/collect/event", ONE + b" " * 50_000, {"Content-Type": content_type})
            answer = connection.getresponse()
            statuses.append((answer.status, answer.headers["Connection"]))
            answer.read()
    finally:
        connection.close()

    assert statuses == [(415, "keep-alive"), (201, "keep-alive")]


def test_an_http_1_0_client_needs_no_host(patient: Collector) -> None:
    """Balancers probe so."""
    assert converse(patient, b"GET /healthz HTTP/1.0\r\n\r\n")[0] == 200


@pytest.mark.parametrize("head", [b"", HEAD + b"Content-Length: 100\r\n\r\n"])
def test_a_client_that_drips_does_not_hold_a_thread(impatient: Collector, head: bytes) -> None:
    """A byte now and then keeps no request alive: head and body have a deadline each."""
    status, _, body = converse(impatient, head, *[b"P"] * 30, pause_s=0.1)

    assert status == 408
    assert b"did not arrive within 1 s" in body


def test_clients_that_say_nothing_more_delay_nobody(patient: Collector) -> None:
    """Many that neither read on nor close, on few threads: others are answered meanwhile, not after two minutes."""
    silent = [socket.create_connection(("127.0.0.1", patient.port)) for _ in range(12)]
    try:
        for client in silent[:6]:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for client in silent[6:9]:
            client.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        assert patient.ask("GET", "/healthz").status == 200
    finally:
        for client in silent:
            client.close()


def test_the_body_is_asked_for_only_when_it_is_wanted(patient: Collector) -> None:
    """Expect: 100-continue is answered by a refusal, if the head is enough for one; else by the invitation."""
    expect = b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: "
    refused, headers, _ = converse(patient, HEAD + expect + b"2000000\r\n\r\n")
    with socket.create_connection(("127.0.0.1", patient.port), timeout=60) as client:
        client.sendall(HEAD + expect + str(len(ONE)).encode() + b"\r\n\r\n")
        invitation = client.recv(1000)
        client.sendall(ONE)
        answer = http.client.HTTPResponse(client)
        answer.begin()

    assert (refused, headers["connection"]) == (413, "close")
    assert invitation == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.status == 201


def test_a_preflight_is_not_counted(limited: House) -> None:
    """A browser that asks whether it may send has sent nothing yet."""
    preflight = Row(
        "preflight",
        204,
        method="OPTIONS",
        headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"},
    )
    for _ in range(5):
        preflight.check(limited.ask(preflight))

    assert limited.ask(Row("taken", 201, ONE, headers=JSON)).headers["x-ratelimit-remaining"] == "2"


def test_a_request_too_many_is_a_503_that_can_be_read() -> None:
    """Who is turned away because others are in work is told when to come again, and where its window stands."""
    with MockCluster() as mock:
        mock.create_topic("events", partitions=1)
        long = {"answer_deadline_s": 60, "delivery_timeout_ms": 59_000}
        with (
            collector(mock.bootstrap_servers, requests_max=1, **long) as running,
            socket.create_connection(("127.0.0.1", running.port)) as first,
        ):
            mock.set_rtt(1, 60_000)
            first.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(ONE) + ONE)
            until(lambda: running.figures()["headrace_ingest_events_in_flight"] == 1)
            row = Row("overloaded", 503, ONE, error(503, "too many requests are in flight; send it again"))
            answer = OnGunicorn(running).ask(row)
            running.kill()  # an orderly end would wait for the first one

    row.check(answer)
    assert answer.headers["retry-after"] == "1"


def test_who_sends_slowly_takes_no_place(embedded_broker: EmbeddedKafka) -> None:
    """Where one request may be in work, those whose bodies are still to come keep nobody out."""
    with (
        collector(embedded_broker.bootstrap_servers, requests_max=1) as running,
        socket.create_connection(("127.0.0.1", running.port)) as slow,
    ):
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")

        assert [OnGunicorn(running).ask(Row("taken", 201, ONE)).status for _ in range(10)] == [201] * 10
