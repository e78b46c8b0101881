"""The operations port: which port answers what."""

import json
from collections.abc import Iterable

import pytest
from werkzeug.test import Client

from ingest.http.operations import OperationsPort
from ingest.settings import load


def app(environ: dict[str, object], start: object) -> Iterable[bytes]:  # noqa: ARG001  (WSGI's)
    """Answer everything."""
    start("200 OK", [])  # type: ignore[operator]  # as above
    return [b"yes"]


@pytest.mark.parametrize(
    ("path", "public", "operations"),
    [
        ("/metrics", 404, 200),
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/collect/event", 200, 404),
        ("/docs", 200, 404),
        ("/openapi.json", 200, 404),
        ("/", 200, 404),
    ],
)
def test_figures_are_on_the_operations_port_alone(path: str, public: int, operations: int) -> None:
    """Probes are on both: a load balancer asks the port that it sends to."""
    client = Client(OperationsPort(app, 9090))

    for port, status in (("8080", public), ("9090", operations)):
        answer = client.get(path, environ_overrides={"SERVER_PORT": port})
        assert answer.status_code == status
        if status == 404:
            assert json.loads(answer.get_data()) == {
                "error": "Not Found",
                "message": "there is no such route",
                "statusCode": 404,
            }


def test_the_two_ports_differ() -> None:
    """Else nothing would be public."""
    told = {"INGEST_BOOTSTRAP_SERVERS": "127.0.0.1:1", "INGEST_PORT": "9090", "INGEST_OPERATIONS_PORT": "9090"}

    with pytest.raises(ValueError, match="INGEST_OPERATIONS_PORT"):
        load(told)
