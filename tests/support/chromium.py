"""A real browser, without a driver: it opens a page, and the page itself reports to the server that it came from."""

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # tests may run as root, for whom Chromium has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_STAY: Final = "--remote-debugging-port=0"  # until it is ended
_RENDER_S: Final = 60.0
_STOP_S: Final = 60.0


class Site:
    """A web site on 127.0.0.1 whose pages report by POST /report with a JSON body.

    Attributes:
        origin: its origin, for browsers.
    """

    def __init__(self, pages: dict[str, str]) -> None:
        self._reports: queue.Queue[Any] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pages, self._reports))
        self._thread = threading.Thread(target=self._server.serve_forever, name="site")
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_report(self, timeout_s: float = 60.0) -> Any:
        """Wait for what a page has to say; raises queue.Empty when none says anything in time."""
        return self._reports.get(timeout=timeout_s)


def _handler(pages: dict[str, str], reports: "queue.Queue[Any]") -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing on standard error."""

    return Handler


def rendered(url: str, *flags: str) -> str:
    """Return the document of a page after its scripts have run, as HTML; ``flags`` are further ones of Chromium.

    Raises:
        FileNotFoundError: there is no Chromium here; the message says how to get one.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-chromium-", ignore_cleanup_errors=True) as profile:
        once = ["--virtual-time-budget=10000", "--dump-dom", f"--user-data-dir={profile}", url]
        done = subprocess.run([program(), *FLAGS, *flags, *once], capture_output=True, timeout=_RENDER_S, check=True)
    return done.stdout.decode()


@contextmanager
def browsing(url: str) -> Iterator[None]:
    """Open a page in headless Chromium, which ends with the block.

    Raises:
        FileNotFoundError: there is no Chromium here; the message says how to get one.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program(), *FLAGS, _STAY, f"--user-data-dir={profile}", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(_STOP_S)


def program() -> str:
    """Return the path of Chromium.

    Raises:
        FileNotFoundError: there is none here; the message says how to get one.
    """
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("the browser was not run: there is no chromium (Debian: apt-get install chromium)")
    return path
