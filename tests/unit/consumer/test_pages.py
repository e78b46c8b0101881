"""The pages that only tell: served whole from this process, and nothing beside them."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ingest.http.docs import add_pages
from ingest.metrics import PrometheusMetrics


@pytest.fixture
def client() -> FlaskClient:
    """A client of an application that has nothing but the pages."""
    app = Flask("pages", static_folder=None)
    add_pages(app, PrometheusMetrics(), {"openapi": "3.1.0"})
    return app.test_client()


def test_the_figures_are_in_prometheus_format(client: FlaskClient) -> None:
    """A scrape says which version of the format it is."""
    answer = client.get("/metrics", buffered=True)

    assert answer.content_type.startswith("text/plain; version=1.0.0")
    assert b"# TYPE headrace_ingest_requests_total counter" in answer.data


def test_the_page_needs_no_other_host(client: FlaskClient) -> None:
    """All that the page loads is served here, and its policy forbids the rest."""
    page = client.get("/docs", buffered=True)
    asked = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/start.js"} <= set(asked)
    for path in asked:
        assert path == "data:," or client.get(f"/{path}", buffered=True).status_code == 200
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]


def test_the_licence_stands_beside_the_page(client: FlaskClient) -> None:
    """Swagger UI may be passed on with its licence."""
    assert "Apache License" in client.get("/docs/LICENSE", buffered=True).text


@pytest.mark.parametrize("name", ["VERSION", "..%2Fpages.py", "%2e%2e/pages.py", "index.htm", "swagger-ui.js", ""])
def test_nothing_else_is_served(client: FlaskClient, name: str) -> None:
    """Only names that are listed lead to a file."""
    assert client.get(f"/docs/{name}", buffered=True).status_code == 404


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("start.js", "text/javascript"),
        ("LICENSE", "text/plain"),
    ],
)
def test_assets_have_their_own_type(client: FlaskClient, name: str, media_type: str) -> None:
    """Browsers take scripts and styles under their types alone."""
    answer = client.get(f"/docs/{name}", buffered=True)

    assert answer.mimetype == media_type
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
