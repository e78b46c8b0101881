"""The routes /, /metrics, /openapi.json and /docs.

/docs is Swagger UI (Apache License 2.0, served beside it); the package flask-swagger-ui ships its files.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
from flask import Flask, Response, abort, send_file

from ingest.http.openapi import Node
from ingest.metrics import CONTENT_TYPE, PrometheusMetrics

_MAX_AGE_S: Final = 3600
# Scripts from this origin only; inline styles too, because Swagger UI sets them on elements.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_links(app: Flask, *, has_operations_port: bool = False) -> None:
    """Add the route /, which names the others; with an operations port it leaves out /metrics."""
    links = {
        "collect": "/collect/event",
        "validate": "/collect/validate",
        "pixel": "/collect/pixel.gif",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "browserClient": "/headrace.js",
        "health": "/healthz",
        "ready": "/readyz",
        "metrics": "/metrics",
    }
    if has_operations_port:
        del links["metrics"]
    document = msgspec.json.encode({"service": "headrace", "links": links})

    @app.get("/")
    def root() -> Response:
        return Response(document, content_type="application/json")


def add_pages(app: Flask, prometheus: PrometheusMetrics, interface: Node) -> None:
    """Add the routes /metrics, /openapi.json and /docs."""
    document = msgspec.json.encode(interface)
    assets = _assets()

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(prometheus.exposition(), content_type=CONTENT_TYPE)

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, content_type="application/json")

    @app.get("/docs")
    def docs() -> Response:
        response = send_file(assets["index.html"], max_age=_MAX_AGE_S)
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @app.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in assets:
            abort(404)
        response = send_file(assets[name], mimetype=_media_type(name), max_age=_MAX_AGE_S)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _assets() -> dict[str, Path]:
    """Return the page's files by name; nothing else in their directories is served."""
    ours, theirs = Path(str(files("ingest") / "docs")), Path(str(files("flask_swagger_ui") / "dist"))
    return {name: ours / name for name in ("index.html", "start.js")} | {
        name: theirs / name for name in ("swagger-ui.css", "swagger-ui-bundle.js", "LICENSE")
    }


def _media_type(name: str) -> str:
    return {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}.get(Path(name).suffix, "text/plain")
