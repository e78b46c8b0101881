"""The routes and their answers, in Flask. The rules live elsewhere.

Every error has the same JSON form: {"error", "message", "statusCode", "details"}.
"""

from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ingest.errors import Unavailable
from ingest.http.endpoints import CollectEndpoints, Endpoint
from ingest.http.errors import answer_to, error_answer
from ingest.http.message import Answer
from ingest.http.middleware import COLLECT, PIXEL, VALIDATE
from ingest.http.responses import JSON
from ingest.http.wsgi import context_of, run_on_loop


class _Application(Flask):
    """Flask with an OPTIONS answer that has no body."""

    def make_default_options_response(self) -> Response:
        """Return 204 with the route's methods; Flask's own answer is an empty HTML page."""
        answer = super().make_default_options_response()
        answer.status_code = HTTPStatus.NO_CONTENT
        answer.headers.remove("Content-Type")
        answer.headers["Allow"] = ", ".join(sorted(answer.allow))
        return answer


def create_app(endpoints: CollectEndpoints, is_ready: Callable[[], bool]) -> Flask:
    """Return the application around the endpoints."""
    app = _Application("ingest", static_folder=None)
    app.url_map.merge_slashes = False  # //collect/event is no route, and no redirect
    _add_collecting(app, endpoints)
    _add_probes(app, is_ready)
    _add_errors(app)
    return app


def _add_collecting(app: Flask, endpoints: CollectEndpoints) -> None:
    @app.before_request
    def is_route() -> None:
        if request.environ["PATH_INFO"].startswith("//"):
            raise NotFound  # werkzeug would route it as if it had one slash; the middleware does not

    @app.post(COLLECT)
    def collect() -> Response:
        return _answered(endpoints.collect)

    @app.post(VALIDATE)
    def validate() -> Response:
        return _answered(endpoints.validate)

    @app.get(PIXEL)
    def pixel() -> Response:
        return _answered(endpoints.pixel)


def _answered(endpoint: Endpoint) -> Response:
    context = context_of(request.environ)
    try:
        return _response(run_on_loop(endpoint(context)))
    except Exception as error:  # noqa: BLE001  (defects are logged there)
        return _response(answer_to(error, context))


def _add_probes(app: Flask, is_ready: Callable[[], bool]) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return Response('{"status": "ok"}', content_type=JSON)

    @app.get("/readyz")
    def readyz() -> Response:
        if not is_ready():
            raise Unavailable("not_ready", "events cannot be made durable now")
        return Response('{"status": "ready"}', content_type=JSON)


def _add_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused_by_framework(error: HTTPException) -> Response:
        allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
        headers = [("Allow", ", ".join(sorted(allowed)))] if allowed else []
        return _response(error_answer(error.code or 500, _sentence(error), headers))

    @app.after_request
    def condition_failed(response: Response) -> Response:
        if response.status_code != HTTPStatus.PRECONDITION_FAILED:
            return response
        response.close()  # werkzeug's own has the page, and its Cache-Control
        return _response(error_answer(HTTPStatus.PRECONDITION_FAILED, "this is not what If-Match names"))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return _response(answer_to(error, context_of(request.environ)))


def _sentence(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return "there is no such route"
    if isinstance(error, MethodNotAllowed):
        return f"the route takes {', '.join(sorted(error.valid_methods or ()))}"
    return error.description or error.name


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, list(answer.headers))
