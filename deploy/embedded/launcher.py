"""Starts the parts in the order of their dependencies, watches them, and stops them in the order of the events' way."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded.broker import EmbeddedBroker, create_topics
from deploy.embedded.drain import await_members, await_nothing_left
from deploy.embedded.environment import (
    DEAD_LETTERS,
    GROUP,
    TOPIC,
    USER,
    Options,
    console_command,
    consumer_environment,
    ingest_environment,
    worker_environment,
    write_environment,
)
from deploy.embedded.greeting import greeting, step
from deploy.embedded.kafka import ApacheKafka
from deploy.embedded.local_broker import HOST, CannotStartError, LocalBroker, check_port_is_free, find_free_port
from deploy.embedded.logs import LogRotation
from deploy.embedded.process import Child, StopRequest, tail

__all__ = ["CannotStartError", "run"]

PARTITIONS: Final = 4  # so that a few workers share the work
_CLICKHOUSE: Final = "clickhouse"
_TOPICS: Final = {TOPIC: PARTITIONS, DEAD_LETTERS: 1}
_START_S: Final = 60.0
_DRAIN_S: Final = 120.0
_TICK_S: Final = 0.05
_REVIVE_S: Final = 0.5  # a part that ends at once must not fill the terminal


@dataclass(slots=True)
class Part:
    """One process of the pipeline; its log has the same name."""

    name: str
    child: Child
    log_path: Path
    start: Callable[[], Child]

    def revive(self) -> None:
        """Restart the process if it has ended by itself, as an orchestrator would."""
        code = self.child.exit_code()
        if code is not None:
            print(f"{self.name} ended with exit code {code}; starting it again", flush=True)
            time.sleep(_REVIVE_S)
            self.child = self.start()

    def check(self) -> None:
        """Raise CannotStartError when the process has ended by itself."""
        code = self.child.exit_code()
        if code is not None:
            said = tail(self.log_path, 1) or "its log is empty"
            raise CannotStartError(f"{self.name} ended with exit code {code}: {said}")


def run(options: Options) -> None:
    """Run the pipeline until SIGTERM or SIGINT.

    Raises:
        CannotStartError: a part can't start, or ended by itself.
    """
    stop = StopRequest()
    _check_ports(options)
    logs = options.logs_directory
    for directory in (logs, options.workers_directory):
        directory.mkdir(parents=True, exist_ok=True)
    print("headrace: starting", flush=True)
    with ExitStack() as stack:
        with step("broker"):
            stack.enter_context(_broker(options))
        parts = _start(options, logs, stack)
        environment_path = write_environment(options)
        print(f"ready {json.dumps(_addresses(options))}", flush=True)
        print(greeting(options, environment_path), flush=True)
        rotation = LogRotation(logs)
        while not stop.asked:
            time.sleep(_TICK_S)
            rotation.look()
            for part in parts:
                part.check() if part.name == _CLICKHOUSE else part.revive()
        print("stopping: first inserting everything that was accepted", flush=True)


def _broker(options: Options) -> LocalBroker:
    log_path = options.logs_directory / "broker.log"
    if options.kafka == "apache":
        return ApacheKafka(options.kafka_port, options.kafka_directory, log_path)
    return EmbeddedBroker(options.kafka_port, log_path)


def _check_ports(options: Options) -> None:
    ports = {
        "collector": options.http_port,
        "ClickHouse": options.clickhouse_port,
        "ClickHouse's native interface": options.clickhouse_native_port,
        "console": options.console_port,
    }
    for name, port in ports.items():
        if port:
            check_port_is_free(port, name)


def _start(options: Options, logs: Path, stack: ExitStack) -> list[Part]:
    """Start all parts; `stack` stops them in reverse, which is the drain: ingress, topic, workers, ClickHouse.

    The broker is already running, and stops last.
    """
    consumer, worker = consumer_environment(options, os.environ), worker_environment(options, os.environ)
    ingest = ingest_environment(options, os.environ)
    with step("ClickHouse"):
        parts = [_part(_CLICKHOUSE, _clickhouse_command(options), os.environ, logs, stack)]
        _await_answer(f"{options.clickhouse_url}/ping", parts)
        _make_log_tables(options)
    with step("topics and tables"):
        create_topics(options.bootstrap_servers, _TOPICS)
        _migrate(consumer, logs)
    parts += _workers(options, worker, stack)
    stack.callback(_drain, options)
    parts.append(_part("ingest", ["ingest"], ingest, logs, stack))
    with step("ingress"):
        _await_answer(f"{options.ingest_url}/readyz", parts)
    if options.console_port:
        with step("console"):
            parts.append(_part("console", console_command(options, ingest), os.environ, logs, stack))
            _await_answer(options.console_url, parts)
    with step(f"workers ({options.workers})"):
        _await_workers(options)
    return parts


def _workers(options: Options, environ: Mapping[str, str], stack: ExitStack) -> list[Part]:
    """Start the workers, each with its metrics on a free port that a file names: the console reads them.

    A worker that is started again gets another port, because the first one may be taken meanwhile.
    """
    for old in options.workers_directory.glob("*"):
        old.unlink()

    def worker(name: str) -> Part:
        def settings() -> Mapping[str, str]:
            given = {"CONSUMER_HTTP_HOST": HOST, "CONSUMER_HTTP_PORT": str(find_free_port())} | dict(environ)
            (options.workers_directory / name).write_text(f"http://{HOST}:{given['CONSUMER_HTTP_PORT']}\n")
            return given

        return _part(name, ["consumer", "run"], settings, options.logs_directory, stack)

    return [worker(f"worker-{number}") for number in range(1, options.workers + 1)]


def _clickhouse_command(options: Options) -> list[str]:
    return [
        "deploy.embedded.clickhouse",
        f"--port={options.clickhouse_port}",
        f"--native-port={options.clickhouse_native_port}",
        f"--data-dir={options.clickhouse_directory}",
    ]


def _await_workers(options: Options) -> None:
    if options.workers and not await_members(options.bootstrap_servers, GROUP, _TOPICS, _START_S):
        raise CannotStartError(
            f"the workers did not start on their partitions within {_START_S:.0f} s; the logs may say why"
        )


def _addresses(options: Options) -> dict[str, str]:
    """Return the addresses for programs that start this one and wait for the line `ready`."""
    addresses = {
        "ingest": options.ingest_url,
        "clickhouse": options.clickhouse_url,
        "clickhouse_native": f"{HOST}:{options.clickhouse_native_port}",
        "kafka": options.bootstrap_servers,
    }
    return addresses | ({"console": options.console_url} if options.console_port else {})


def _part(
    name: str,
    module: Sequence[str],
    environ: Mapping[str, str] | Callable[[], Mapping[str, str]],
    logs: Path,
    stack: ExitStack,
) -> Part:
    """Start a part; `environ` may be a function, which is called at each start."""
    log_path = logs / f"{name}.log"

    def start() -> Child:
        return Child([sys.executable, "-m", *module], log_path, environ() if callable(environ) else environ)

    part = Part(name, start(), log_path, start)
    stack.callback(lambda: part.child.stop(signal.SIGTERM, _DRAIN_S))
    return part


def _drain(options: Options) -> None:
    if not await_nothing_left(options.bootstrap_servers, GROUP, _TOPICS, _DRAIN_S):
        left = {
            "embedded": "they are lost, because the embedded broker keeps them in memory",
            "apache": "they are inserted at the next start",
        }
        print(f"stopped with events left on the topic: {left[options.kafka]}", flush=True)


def _make_log_tables(options: Options) -> None:
    """Make ClickHouse create the tables that /dashboard reads now, not with the first rows a minute later."""
    account = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": options.password_path.read_text()}
    request = urllib.request.Request(options.clickhouse_url, b"SYSTEM FLUSH LOGS", account)  # noqa: S310  (our own)
    with urllib.request.urlopen(request, timeout=_START_S):  # noqa: S310  (as above)
        pass


def _migrate(environ: Mapping[str, str], logs: Path) -> None:
    log_path = logs / "migrate.log"
    code = Child([sys.executable, "-m", "consumer", "migrate"], log_path, environ).wait(_START_S)
    if code:
        raise CannotStartError(f"the tables could not be created: {tail(log_path, 1)}")


def _await_answer(url: str, parts: Sequence[Part]) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        for part in parts:
            part.check()
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  (our own http address)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_TICK_S)
    raise CannotStartError(f"{url} did not answer within {_START_S:.0f} s; the logs may say why")
