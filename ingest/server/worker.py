"""gunicorn's worker: one event loop per process, and its orderly end.

gunicorn is the process manager: it binds, forks, replaces workers that die or hang, and passes signals on. Connections
are ours (ingest/server/connection.py). After SIGTERM a worker serves on for a grace time, while /readyz answers 503, so
that balancers can notice. Then it stops accepting, finishes the requests in flight, and closes the application while
the loop still runs: requests that wait for a silent broker are spooled and answered.
"""

import asyncio
import gc
import logging.config
import os
import signal
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import uvloop
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from ingest.logs import log_config
from ingest.server.server import LoopServer

if TYPE_CHECKING:
    from ingest.service import Service

_TICK_S: Final = 0.1
# Objects before Python looks for cycles. The default is 700, and a request of 500 events has thousands. Requests make
# no cycles, but for some errors.
_GC_OBJECTS: Final = 50_000
_SWEEPS_EVERY: Final = 3  # ticks
_REPORTS_EVERY: Final = 10  # ticks


class ServerLog(Logger):
    """Sends what gunicorn says to the process's log; there is no access log."""

    def setup(self, cfg: Config) -> None:
        """Configure logging; gunicorn calls it at start and again when it reloads its configuration."""
        super().setup(cfg)
        logging.config.dictConfig(log_config(cfg.loglevel.upper()))


class CollectorWorker(Worker):
    """One worker process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what gunicorn gives; it is still the master's process."""
        super().__init__(*args, **kwargs)
        self._service: Service | None = None
        self._serve_until_s = float("inf")
        self._is_quick = False

    def init_signals(self) -> None:
        """Handle signals that arrive before the loop runs."""
        super().init_signals()
        signal.set_wakeup_fd(-1)  # the loop has its own

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  (gunicorn's signature)
        """Take SIGTERM: begin the grace time."""
        self._terminate()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  (gunicorn's signature)
        """Take SIGQUIT or SIGINT: close the application at once; requests in flight are still answered."""
        self._quit()

    def run(self) -> None:
        """Serve until the end; gunicorn calls it once the application is loaded."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        from ingest.service import service_of  # noqa: PLC0415  (not before gunicorn's on_starting)

        service = self._service = service_of(self.wsgi)  # type: ignore[arg-type]  # it is the Flask application
        limits = service.limits
        server = LoopServer(service.handle, self.cfg.worker_connections, limits.receive_timeout_s, limits.keepalive_s)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        for number in (signal.SIGQUIT, signal.SIGINT):
            loop.add_signal_handler(number, self._quit)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        gc.freeze()  # what the start has made stays for ever: no search looks through it again
        gc.set_threshold(_GC_OBJECTS)
        server.start([socket.socket(fileno=os.dup(listener.fileno())) for listener in self.sockets])
        await self._tick_until_end(server, service.load_bound)
        service.drain()
        server.stop()
        for listener in self.sockets:
            listener.close()
        if not self._is_quick:
            await self._await_idle(server, limits.finish_s)
        await asyncio.to_thread(service.close)
        await self._await_idle(server, 1)

    async def _tick_until_end(self, server: LoopServer, load_bound: Any) -> None:
        """Report to the master, check the deadlines, and measure how late the loop is."""
        ticks, late_s = 0, 0.0
        while self.alive and monotonic() < self._serve_until_s:
            due_s = monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            # One late tick is a pause of the machine, and over; two in a row are too much work.
            before_s, late_s = late_s, max(monotonic() - due_s, 0.0)
            load_bound.late_s = min(before_s, late_s)
            ticks += 1
            if ticks % _SWEEPS_EVERY == 0:
                server.sweep()
            if ticks % _REPORTS_EVERY == 0:
                self.notify()
                if self.ppid != os.getppid():  # the master has died: end at once and free the port
                    self.log.warning("the master process is gone, ending")
                    self.alive = False

    async def _await_idle(self, server: LoopServer, timeout_s: float) -> None:
        """Wait until all connections are over, at most so long; deadlines are kept meanwhile."""
        until_s = monotonic() + timeout_s
        while not server.is_idle and monotonic() < until_s:
            self.notify()
            server.sweep()
            await asyncio.sleep(_TICK_S / 2)

    def _terminate(self) -> None:
        if self._service is None:  # a signal may come before there is an application, while it is imported even
            self.alive = False
        elif self._serve_until_s == float("inf"):
            self._serve_until_s = monotonic() + self._service.limits.grace_s
            self._service.drain()

    def _quit(self) -> None:
        self._is_quick = True
        self.alive = False
