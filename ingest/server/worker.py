"""gunicorn's worker with our two decisions: who is turned away when too many wait, and in which order a process ends.

gunicorn (27.0) queues every connection that has something to say behind its threads, without a bound but that of all
connections. And its master passes SIGTERM on at once, upon which a worker stops accepting: a balancer that has not
noticed yet would meet closed doors. So here a worker serves on for a while after SIGTERM and says on /readyz that it
is going. Then gunicorn's own order follows: stop accepting, finish what is in flight, close kept-alive connections;
and the application's: what is on its way to the broker, the spool, the books.
"""

import errno
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from time import monotonic
from typing import Any, Final

from gunicorn.workers.gthread import TConn

from ingest.http.inflight import overloaded
from ingest.server.server import Worker

_LANE_THREADS: Final = 4  # a refusal takes a fraction of a millisecond, unless its client is slow
_PAUSE_S: Final = 0.2
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOBODY: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED})


class CollectorWorker(Worker):
    """One worker process. deploy/gunicorn.conf.py sets the class's attributes from the settings."""

    requests_max = 128
    """Connections with a request, answered or waiting for a thread; those beyond take the short lane."""
    queue_wait_s = 0.5
    """A request that waited longer for its thread is refused too: it would be answered too late."""
    grace_s = 5.0
    """After SIGTERM requests are still taken for so long."""
    finish_s = 10
    """Then those in flight get so long to be answered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what gunicorn gives; it is still the master's process."""
        super().__init__(*args, **kwargs)
        self._lane: ThreadPoolExecutor | None = None
        self._in_flight = 0
        self._serve_until_s: float | None = None
        self._accept_at_s = float("-inf")

    def init_process(self) -> None:
        """Start in the worker's process; returns when it ends."""
        self._lane = ThreadPoolExecutor(_LANE_THREADS, "overload")
        self.cfg.set("graceful_timeout", self.finish_s)  # ours alone: the master's also covers what comes after it
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Take a connection and wait for its first bytes without a thread: most balancers connect in advance."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _NOBODY:
                return
            if error.errno in _SHORT:
                self._pause_accepting(error)
                return
            raise
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.timeout = monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _pause_accepting(self, error: OSError) -> None:
        """Leave new connections in the listener's queue for a moment: who is served may free what is short."""
        if monotonic() >= self._accept_at_s + _PAUSE_S:
            self.log.error("no connection can be accepted now: %s", error.strerror)
        self._accept_at_s = monotonic() + _PAUSE_S
        self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool | None) -> None:  # noqa: FBT001  (gunicorn's signature)
        """Begin or cease to accept; gunicorn's loop asks for it at least once a second."""
        if not enabled or monotonic() >= self._accept_at_s:
            super().set_accept_enabled(enabled)

    def _cap_keepalive(self, deadline: float) -> None:
        """Close idle connections by then, those that have never said anything too; gunicorn calls it at the end."""
        super()._cap_keepalive(deadline)  # type: ignore[misc]  # the stubs are of gunicorn 23
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout or deadline, deadline)

    # In and out: the main thread calls both, so the count needs no lock.

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection that has something to say to a thread: one of the many, or one that only refuses."""
        self._in_flight += 1
        is_over = self._in_flight > self.requests_max
        pool = self._lane if is_over and self._lane is not None else self.tpool
        answer = pool.submit(self._refuse if is_over else self._serve, conn, monotonic())
        answer.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Put a connection back, or close it."""
        self._in_flight -= 1
        super().finish_request(conn, fs)

    def _serve(self, conn: TConn, queued_at_s: float) -> Any:
        if monotonic() - queued_at_s > self.queue_wait_s:
            return self._refuse(conn, queued_at_s)
        return self.handle(conn)

    def _refuse(self, conn: TConn, _: float) -> Any:
        with overloaded():
            return self.handle(conn)

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  (gunicorn's signature)
        """Take SIGTERM: begin the grace time."""
        if self._serve_until_s is None:
            self._serve_until_s = monotonic() + self.grace_s
            self._drain()
            self.alive = self.grace_s > 0
            self.method_queue.defer(lambda: None)  # wake the loop

    def notify(self) -> None:
        """Tell the master that the process lives; the loop calls this at least once a second."""
        super().notify()
        if self._serve_until_s is not None and monotonic() >= self._serve_until_s:
            self.alive = False

    def is_parent_alive(self) -> bool:
        """See whether the master has died: then end at once, and free the port for the next one."""
        if super().is_parent_alive():
            return True
        self._drain()
        self.alive = False
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        return False

    def _drain(self) -> None:
        if not hasattr(self, "wsgi"):  # a signal may come before there is an application, while it is imported even
            return
        from ingest.service import drain_app  # noqa: PLC0415  (not before gunicorn's on_starting)

        drain_app(self.wsgi)  # type: ignore[arg-type]  # it is the Flask application
