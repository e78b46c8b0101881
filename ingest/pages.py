"""What people and machines read of the collector: figures, the description of its HTTP interface, and a page for it."""

from flask import Flask, Response

from ingest.telemetry import CONTENT_TYPE, Telemetry


def add_pages(app: Flask, telemetry: Telemetry) -> None:
    """Add the routes that only tell."""

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(telemetry.exposition(), content_type=CONTENT_TYPE)
