"""The options of the embedded pipeline, and the settings of the services that follow from them."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from deploy.embedded.broker import CONSUMER_SETTINGS
from deploy.embedded.local_broker import HOST

TOPIC: Final = "events"
DEAD_LETTERS: Final = "events.dead"
GROUP: Final = "headrace"
# In ClickHouse, see clickhouse_server/users.xml. Commands run as the first, workers as the second.
USER: Final = "headrace"
WORKER: Final = "headrace_worker"
ANALYST: Final = "analyst"
# Settings that nothing else depends on; a variable of the environment has precedence.
_INGEST_TUNING: Final[Mapping[str, object]] = {"SHUTDOWN_GRACE_S": 0}  # there is no load balancer
_CONSUMER_TUNING: Final[Mapping[str, object]] = {
    "BATCH_AGE_S_MAX": 0.5,  # one person is watching, and there are few parts
    "SESSION_TIMEOUT_MS": CONSUMER_SETTINGS["session.timeout.ms"],
    "HEARTBEAT_INTERVAL_MS": CONSUMER_SETTINGS["heartbeat.interval.ms"],
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    http_port: int
    clickhouse_port: int
    clickhouse_native_port: int
    kafka_port: int
    data_dir: str
    workers: int
    console_port: int
    """0: no console."""
    kafka: Literal["embedded", "apache"] = "embedded"
    """Which broker runs."""

    @property
    def ingest_url(self) -> str:
        """The collector's address."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def clickhouse_url(self) -> str:
        """The address of ClickHouse's HTTP interface."""
        return f"http://{HOST}:{self.clickhouse_port}"

    @property
    def console_url(self) -> str:
        """The console's address."""
        return f"http://{HOST}:{self.console_port}"

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address."""
        return f"{HOST}:{self.kafka_port}"

    @property
    def directory(self) -> Path:
        """The directory of everything that the pipeline keeps, as an absolute path."""
        return Path(self.data_dir).resolve()

    @property
    def logs_directory(self) -> Path:
        """The directory with a log per part."""
        return self.directory / "logs"

    @property
    def workers_directory(self) -> Path:
        """The directory with a file per worker: where its /metrics and /readyz are."""
        return self.directory / "workers"

    @property
    def clickhouse_directory(self) -> Path:
        """The directory of ClickHouse's tables, log and password."""
        return self.directory / "clickhouse"

    @property
    def kafka_directory(self) -> Path:
        """The directory of Apache Kafka's log."""
        return self.directory / "kafka"

    @property
    def password_path(self) -> Path:
        """The file with the password of ClickHouse's account headrace."""
        return self.clickhouse_directory / "password"


def ingest_environment(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the ingress's settings."""
    return _environment(environ, "INGEST_", _INGEST_TUNING, _ingest_addresses(options))


def consumer_environment(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the settings of the workers and the consumer's commands."""
    return _environment(environ, "CONSUMER_", _CONSUMER_TUNING, _consumer_addresses(options))


def worker_environment(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the settings of a worker: an account that may do its work only."""
    return consumer_environment(options, environ) | _named("CONSUMER_", {"CLICKHOUSE_USER": WORKER})


def _environment(
    environ: Mapping[str, str], prefix: str, tuning: Mapping[str, object], addresses: Mapping[str, object]
) -> dict[str, str]:
    """Variables of `environ` replace the tuning only: a shell may still have the addresses of another run."""
    return _named(prefix, tuning) | dict(environ) | _named(prefix, addresses)


def _named(prefix: str, settings: Mapping[str, object]) -> dict[str, str]:
    return {f"{prefix}{name}": str(value) for name, value in settings.items()}


def _ingest_addresses(options: Options) -> dict[str, object]:
    return {
        "BOOTSTRAP_SERVERS": options.bootstrap_servers,
        "TOPIC": TOPIC,
        "DEAD_LETTER_TOPIC": DEAD_LETTERS,
        "HOST": HOST,
        "PORT": options.http_port,
        "SCHEMA_CACHE_DIR": options.directory / "schemas",
        "SPOOL_DIR": options.directory / "spool",
        "GUNICORN_CONFIG": Path(__file__).resolve().parents[1] / "gunicorn.conf.py",
    }


def _consumer_addresses(options: Options) -> dict[str, object]:
    return {
        "BOOTSTRAP_SERVERS": options.bootstrap_servers,
        "TOPIC": TOPIC,
        "DEAD_LETTER_TOPIC": DEAD_LETTERS,
        "GROUP_ID": GROUP,
        "CLICKHOUSE_URL": options.clickhouse_url,
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": options.password_path,
        "SCHEMA_CACHE_DIR": options.directory / "schemas",
    }


def console_command(options: Options, ingest: Mapping[str, str]) -> list[str]:
    """Return the console's module and arguments; `ingest` is the ingress's environment."""
    operations_port = ingest.get("INGEST_OPERATIONS_PORT", "0")
    metrics_port = options.http_port if operations_port == "0" else operations_port
    return [
        "deploy.embedded.console",
        f"--port={options.console_port}",
        f"--ingest-url={options.ingest_url}",
        f"--metrics-url=http://{HOST}:{metrics_port}/metrics",
        f"--clickhouse-url={options.clickhouse_url}",
        f"--workers-dir={options.workers_directory}",
        f"--logs-dir={options.logs_directory}",
        f"--catalogue={ingest.get('INGEST_CATALOGUE_FILE', '')}",
    ]


def write_environment(options: Options) -> Path:
    """Write a file for a shell to read: then every command finds this pipeline. Return its path."""
    settings = ingest_environment(options, {}) | consumer_environment(options, {})
    bin_directory = Path(sys.executable).parent  # not resolved: .venv/bin/python is a link
    lines = [
        "# Settings of the running pipeline, for the commands of headrace. Read this file with: . <path>",
        *(f"export {name}={shlex.quote(value)}" for name, value in settings.items()),
        f'export PATH={shlex.quote(str(bin_directory))}:"$PATH"',
    ]
    path = options.directory / "env"
    draft = path.with_suffix(".draft")
    draft.write_text("\n".join(lines) + "\n", "utf-8")
    draft.replace(path)
    return path
