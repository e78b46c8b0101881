"""gunicorn's configuration of the ingress: values only; what varies comes from INGEST_ settings."""

import os
import tempfile
from math import ceil
from typing import Any

from ingest.http.client_ip import to_listen_on
from ingest.metric_files import MetricFiles, free_number
from ingest.open_files import connections_within, raise_limit
from ingest.server.worker import CollectorWorker
from ingest.settings import finish_s, load

# Nothing here may import ingest.metrics, or what imports it, before on_starting has run: see there.

_settings = load(os.environ)

wsgi_app = "ingest.service:open_app()"
# Every worker listens on both, and ingest/http/operations.py tells them apart.
bind = [to_listen_on(_settings.host, port) for port in (_settings.port, _settings.operations_port) if port]
workers = _settings.workers
# An event loop of ours with deadlines, JSON errors, a bound on what waits, and an orderly end.
worker_class = CollectorWorker
worker_connections, _shortage = connections_within(raise_limit(_settings.connections_max), _settings.connections_max)
# The application, and with it the Kafka producer, is made in each worker, after the fork.
preload_app = False
# The master kills what is left after this: the grace time, what is in flight, and then 10 s for the rest (flush 2 s,
# purge 1 s, spool 2 x 3 s, measured below 1 s in all).
graceful_timeout = ceil(_settings.shutdown_grace_s + finish_s(_settings)) + 10
# A worker that does not report for this long is replaced.
timeout = 60
backlog = 2048
# A request's line stands in a proxy's log; here only refusals are logged, by the application.
accesslog = None
logger_class = "ingest.server.worker.ServerLog"
loglevel = _settings.log_level.lower()
# Its default is a socket under the home directory, which a container may not have, and nothing here uses it.
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108  (a heartbeat file in memory)


def on_starting(server: Any) -> None:
    """Make the directory in which the workers count, and say what the machine is short of."""
    server.metric_files = MetricFiles(worker_tmp_dir or tempfile.gettempdir())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(server.metric_files.path)
    if _shortage:
        server.log.warning(_shortage)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the files to count in that a dead one left, if there are any."""
    worker.number = free_number(other.number for other in server.WORKERS.values())


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Count under the worker's number."""
    from ingest.metrics import count_as  # noqa: PLC0415  (not before on_starting)

    count_as(worker.number)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Take a dead worker's gauges out of the sums; its counters stay in, and its successor goes on with them."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  (not before on_starting)

    mark_process_dead(worker.number)  # type: ignore[no-untyped-call]  # prometheus-client's


def on_exit(server: Any) -> None:
    """Remove the directory of the counters."""
    server.metric_files.remove()


def worker_exit(server: object, worker: object) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Drain the worker's producer if it ended before it could do so itself."""
    if not hasattr(worker, "wsgi"):  # it was told to end before it had an application
        return
    from ingest.service import service_of  # noqa: PLC0415  (not before on_starting)

    service_of(worker.wsgi).close()
