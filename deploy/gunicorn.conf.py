"""gunicorn's configuration of the ingress: values only; what varies comes from INGEST_ settings."""

import os

from ingest.service import close_app
from ingest.settings import load

_settings = load(os.environ)

wsgi_app = "ingest.service:open_app()"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = "gthread"
threads = _settings.threads
# The application, and with it the Kafka producer, is made in each worker, after the fork.
preload_app = False
# Idle keep-alive connections of clients and load balancers; below the common 60 s of balancers.
keepalive = 30
# Enough for every request in flight to reach its answer deadline, and for the producer to flush after it.
graceful_timeout = int(2 * _settings.answer_deadline_s) + 5
# A worker that does not report for this long is replaced.
timeout = 60
backlog = 2048
# Headers beyond these are refused before the application sees them.
limit_request_line = 8190
limit_request_fields = 100
# A request's line stands in a proxy's log; here only refusals are logged, by the application.
accesslog = None
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108  (a heartbeat file in memory)


def worker_exit(server: object, worker: object) -> None:  # noqa: ARG001  (gunicorn's signature)
    """Drain the worker's producer before the process ends."""
    close_app(worker.wsgi)  # type: ignore[attr-defined]  # gunicorn's worker
