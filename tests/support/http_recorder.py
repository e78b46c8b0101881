"""A small HTTP server for tests of what stands before a server."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Recorder(ThreadingHTTPServer):
    """Remembers the bodies that came whole and those that did not."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        """Listen; ``port`` 0 picks one."""
        super().__init__(("127.0.0.1", port), Handler)
        self.applied: list[bytes] = []
        self.partial: list[bytes] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that are cut off: tests do that."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """Answers in each of the ways in which an answer can end."""

    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        """Apply a body that is complete and answer with its size."""
        body, whole = self.read_body()
        if not whole:
            self.server.partial.append(body)
            self.close_connection = True
            return
        self.server.applied.append(body)
        self.answer(b"%d bytes" % len(body))

    def do_GET(self) -> None:
        """Answer in chunks, until the connection closes, or with a length."""
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\none\r\n4;x=y\r\n two\r\n0\r\nTrailer: 1\r\n\r\n")
        elif self.path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"no length")
        else:
            self.answer(b"length")

    def do_HEAD(self) -> None:
        """Tell a length and send no body."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        """Send 200 with a length."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read_body(self) -> tuple[bytes, bool]:
        """Return what came of the body, and whether that is all of it."""
        try:
            if self.headers.get("Transfer-Encoding") == "chunked":
                return self.read_chunks(), True
            length = int(self.headers.get("Content-Length", 0))
            body = bytearray()
            while len(body) < length and (piece := self.rfile.read1(length - len(body))):
                body += piece
        except OSError:
            return bytes(body), False
        return bytes(body), len(body) == length

    def read_chunks(self) -> bytes:
        """Return a chunked body."""
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
        """Say nothing."""


@contextmanager
def serve() -> Iterator[Recorder]:
    """Run a server on a free port of 127.0.0.1."""
    recorder = Recorder()
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recorder
    finally:
        recorder.shutdown()
        recorder.server_close()
        thread.join()
