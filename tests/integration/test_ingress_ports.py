"""An ingress of two worker processes as it runs: no header of a request bends its way, and operations have a port."""

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from tests.support.ingress import Ingress
from tests.support.ports import free_port

_BODY: Final = json.dumps({"messageBody": [{"eventType": "VIEW", "eventId": "00000000-0000-7000-8000-000000000001"}]})
_CLAIMS: Final[Sequence[Sequence[tuple[str, str]]]] = [
    [("SCRIPT_NAME", "/collect")],
    [("SCRIPT_NAME", "/x")],
    [("SCRIPT-NAME", "/collect")],
    [("PATH_INFO", "/metrics")],
    [("PATH-INFO", "/metrics")],
    [("REMOTE_USER", "root")],
    [("REMOTE_ADDR", "10.0.0.1")],
    [("SERVER_PORT", "1")],
    [("X-Forwarded-Proto", "https")],
    [("X-Forwarded-Proto", "http")],
    [("X-Forwarded-Proto", "https"), ("X-Forwarded-Protocol", "http")],
    [("X-Forwarded-Proto", "https"), ("X-Forwarded-Protocol", "ssl"), ("X-Forwarded-Ssl", "off")],
    [("X-Forwarded-Ssl", "on")],
    [("X-Forwarded-Prefix", "/x")],
    [("X-Forwarded-Host", "elsewhere.example")],
    [("X-Forwarded-Port", "1")],
    [("X-Forwarded-For", "10.0.0.1")],
    [("X_Forwarded_For", "10.0.0.1")],
    [("Forwarded", "for=10.0.0.1;proto=https;host=elsewhere.example")],
    [("X-Real-IP", "10.0.0.1")],
    [("X-Original-URL", "/metrics")],
    [("X-Rewrite-URL", "/metrics")],
    [("X-HTTP-Method-Override", "DELETE")],
]


class Ports:
    """An ingress, and the port of its operations."""

    def __init__(self, ingress: Ingress, operations: int) -> None:
        self.ingress, self.operations = ingress, operations

    def ask(
        self, method: str, path: str, *, port: int = 0, headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[int, bytes]:
        """Return status and body, of the public port unless another one is given."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.ingress.port, timeout=30)
        body = _BODY if method == "POST" else ""
        connection.putrequest(method, path)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            connection.putheader(name, value)
        connection.endheaders(body.encode())
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """Two processes, whose broker is away."""
    operations = free_port()
    directory = tmp_path_factory.mktemp("ingress")
    ingress = Ingress(directory, f"127.0.0.1:{free_port()}", workers=2, operations_port=operations)
    ingress.start()
    yield Ports(ingress, operations)
    ingress.end()


@pytest.mark.parametrize("claim", _CLAIMS, ids=lambda claim: ", ".join(f"{name}: {value}" for name, value in claim))
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/collect/validate"), ("GET", "/healthz"), ("GET", "/x/healthz"), ("GET", "/event")]
)
def test_no_header_of_a_neighbour_bends_a_request(
    method: str, path: str, claim: Sequence[tuple[str, str]], ports: Ports
) -> None:
    """A peer on this machine is no proxy unless a setting says so: every answer is what it is without the header."""
    plain, claimed = ports.ask(method, path), ports.ask(method, path, headers=claim)

    assert claimed[0] == plain[0]
    assert json.loads(claimed[1]).get("valid") == json.loads(plain[1]).get("valid")
    assert json.loads(claimed[1]).get("message") == json.loads(plain[1]).get("message")


def test_operations_have_a_port_of_their_own(ports: Ports) -> None:
    """The figures of all processes are there alone; probes are on both, and collecting on the public one alone."""
    for _ in range(6):
        assert ports.ask("POST", "/collect/event")[0] == 201
    table = [
        ("GET", "/metrics", 404, 200),
        ("GET", "/%6detrics", 404, 200),
        ("HEAD", "/metrics", 404, 200),
        ("GET", "/healthz", 200, 200),
        ("GET", "/readyz", 200, 200),
        ("GET", "/openapi.json", 200, 404),
        ("GET", "/docs", 200, 404),
        ("POST", "/collect/event", 201, 404),
        ("POST", "/collect/validate", 200, 404),
    ]
    for method, path, public, operations in table:
        assert ports.ask(method, path)[0] == public, path
        status, body = ports.ask(method, path, port=ports.operations)
        assert status == operations, path
        if status == 404:
            assert json.loads(body)["statusCode"] == 404

    created = b'headrace_ingest_requests_total{outcome="created",route="/collect/event",status="201"} 7.0'
    for _ in range(4):
        assert created in ports.ask("GET", "/metrics", port=ports.operations)[1].splitlines()
