"""The console's HTTP server, from the standard library: a few routes, seldom asked, by one person.

Every page that is open in a browser on this machine can send requests to 127.0.0.1. So a request is answered only under
the names `127.0.0.1` and `localhost` (a foreign name that points here belongs to another site), only to pages of this
server, and a POST only with a header that another site's page can't add without asking first, which is never allowed.
"""

import socket
import threading
import traceback
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from deploy.embedded.console.routes import Reply, Routes, told

HOST: Final = "127.0.0.1"
TOKEN: Final = ("X-Headrace", "console")
"""The header of each POST; static, because only the browser's question before it protects."""
_NAMES: Final = (HOST, "localhost")
_API: Final = "/api/"
_BODY_BYTES_MAX: Final = 2 * 1024**2
_IDLE_S: Final = 30.0
_CONNECTIONS_MAX: Final = 32
_ASSETS: Final = Path(__file__).resolve().parent / "assets"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# What events contain is hostile. It is only ever text on the page, and if it were not, this would stop it: scripts from
# this server alone, no text becomes markup (trusted types), nothing is loaded from or sent to another place.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal_of(method: str, path: str, headers: Message) -> str:
    """Return why a request is not answered, in one sentence; "" when it is."""
    hosts = headers.get_all("Host", [])
    if len(hosts) != 1 or hosts[0].partition(":")[0] not in _NAMES:
        return f"This server answers as {' or '.join(_NAMES)} only."
    if headers.get("Origin", f"http://{hosts[0]}") != f"http://{hosts[0]}":
        return "This server answers its own pages only."
    if not path.startswith(_API):
        return ""
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "This server answers its own pages only."
    if method == "POST" and headers.get(TOKEN[0]) != TOKEN[1]:
        return f"A POST needs the header {TOKEN[0]}: {TOKEN[1]}."
    return ""


def read_assets() -> Mapping[str, Reply]:
    """Return the page's files by path; `/` is the page."""
    files = {
        f"/{path.name}": Reply(HTTPStatus.OK, _TYPES[path.suffix], path.read_bytes()) for path in _ASSETS.iterdir()
    }
    return files | {"/": files["/index.html"]}


class ConsoleServer(ThreadingHTTPServer):
    """Serves on 127.0.0.1; more connections than a few browsers need are closed at once."""

    daemon_threads = True
    request_queue_size = _CONNECTIONS_MAX

    def __init__(self, port: int, routes: Routes) -> None:
        """Listen; raises OSError when the port is taken."""
        self._routes, self._assets = routes, read_assets()
        self._slots = threading.BoundedSemaphore(_CONNECTIONS_MAX)
        super().__init__((HOST, port), Handler)

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        """Answer a request of the own page."""
        if not path.startswith(_API):
            missing = told(HTTPStatus.NOT_FOUND, {"message": "There is no such page."})
            return self._assets.get(path, missing) if method == "GET" else missing
        try:
            return self._routes.reply(method, path.removeprefix(_API), body)
        except Exception:  # noqa: BLE001  (a defect in one route must not end the page)
            traceback.print_exc()
            return told(HTTPStatus.INTERNAL_SERVER_ERROR, {"message": "This is a defect; the console's log has it."})

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or close it when there are too many."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Log nothing: a browser may close a connection whenever it likes."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: ConsoleServer
    protocol_version = "HTTP/1.1"
    server_version = "headrace-console"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        if body is None:
            self.close_connection = True
            sentence = "The body is too large, or has no size."
            self._send(told(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"message": sentence}))
        elif sentence := refusal_of(self.command, path, self.headers):
            self._send(told(HTTPStatus.FORBIDDEN, {"message": sentence}))
        else:
            self._send(self.server.reply(self.command, path, body))

    def _body(self) -> bytes | None:
        """Return the body, or None when it can't be read in bounds."""
        text = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdigit()):
            return None
        return self.rfile.read(int(text)) if int(text) <= _BODY_BYTES_MAX else None

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's signature)
        """Log nothing: an open page asks once a second."""
