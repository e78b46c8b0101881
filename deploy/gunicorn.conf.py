"""gunicorn's configuration for the ingress: only values; what varies comes from INGEST_ settings."""

import os
import tempfile
from math import ceil
from typing import Any

from ingest.http.client_ip import to_listen_on
from ingest.metric_files import MetricFiles, free_number
from ingest.open_files import connections_within, raise_limit
from ingest.server.worker import CollectorWorker
from ingest.settings import finish_s, load

# Nothing here may import ingest.metrics, directly or indirectly, before on_starting has run.

_settings = load(os.environ)

wsgi_app = "ingest.service:open_app()"
# Every worker listens on both ports; ingest/http/operations.py tells them apart.
bind = [to_listen_on(_settings.host, port) for port in (_settings.port, _settings.operations_port) if port]
workers = _settings.workers
# An event loop of ours with deadlines, JSON errors, a bound on what waits, and an orderly end.
worker_class = CollectorWorker
worker_connections, _shortage = connections_within(raise_limit(_settings.connections_max), _settings.connections_max)
# Each worker creates the application, and with it the Kafka producer, after the fork.
preload_app = False
# The master kills a worker after this: the grace time, the requests in flight, and 10 s for the rest (flush 2 s,
# purge 1 s, spool 2 x 3 s; measured below 1 s in all).
graceful_timeout = ceil(_settings.shutdown_grace_s + finish_s(_settings)) + 10
# A worker that does not report for this long is replaced.
timeout = 60
backlog = 2048
# A proxy logs each request; here the application logs only refusals.
accesslog = None
logger_class = "ingest.server.worker.ServerLog"
loglevel = _settings.log_level.lower()
# The default is a socket in the home directory, which a container may lack, and nothing here uses it.
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108  (a heartbeat file in memory)


def on_starting(server: Any) -> None:
    """Create the directory of the metric files, and log a shortage of open files."""
    server.metric_files = MetricFiles(worker_tmp_dir or tempfile.gettempdir())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(server.metric_files.path)
    if _shortage:
        server.log.warning(_shortage)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the metric files of a dead one, if there are any."""
    worker.number = free_number(other.number for other in server.WORKERS.values())


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Count under the worker's number."""
    from ingest.metrics import count_as  # noqa: PLC0415  (not before on_starting)

    count_as(worker.number)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Remove a dead worker's gauges from the sums; its counters stay, and its successor continues them."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  (not before on_starting)

    mark_process_dead(worker.number)  # type: ignore[no-untyped-call]  # prometheus-client's


def on_exit(server: Any) -> None:
    """Remove the directory of the metric files."""
    server.metric_files.remove()


def worker_exit(server: object, worker: object) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Drain the worker's producer if it ended before it could do so itself."""
    if not hasattr(worker, "wsgi"):  # it was stopped before it had an application
        return
    from ingest.service import service_of  # noqa: PLC0415  (not before on_starting)

    service_of(worker.wsgi).close()
