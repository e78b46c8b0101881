"""A ClickHouse for tests: the one at an address, else a container, else the embedded server."""

from __future__ import annotations

import atexit
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tests.support.freezing import freeze
from tests.support.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

ADDRESS: Final = "HEADRACE_TEST_CLICKHOUSE_URL"
# The account of tests, which may do everything: what the providers make, or what belongs to the address.
USER: Final = os.environ.get("HEADRACE_TEST_CLICKHOUSE_USER", "headrace")
PASSWORD: Final = os.environ.get("HEADRACE_TEST_CLICKHOUSE_PASSWORD", "of no use outside of tests")
IMAGE: Final = "clickhouse/clickhouse-server:26.9"
_ROOT: Final = Path(__file__).resolve().parents[2]
_START_S: Final = 60.0
_STOP_S: Final = 60.0
_DOCKER_S: Final = 10.0


class ClickHouse(ABC):
    """A ClickHouse with an HTTP interface and the account `USER`, which may do everything.

    Attributes:
        url: `http://host:port`, known once started; the same after a restart, but for a container.
        name: Which provider it is.
        passed_over: Why the providers before it were not taken.
    """

    name: str
    url: str = ""
    passed_over: tuple[str, ...] = ()

    @abstractmethod
    def start(self) -> None:
        """Start it, or start it again with its tables, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as an operator would; its tables stay. Does nothing when it does not run."""

    @abstractmethod
    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server's process; raises RuntimeError where there is none to reach."""

    def kill(self) -> None:
        """End it at once: SIGKILL."""
        self.send(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: SIGSTOP."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class GivenClickHouse(ClickHouse):
    """The server at an address; it is not ours to stop."""

    name = "address"

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def start(self) -> None:
        """Wait until it answers."""
        wait_for_ping(self.url)

    def stop(self) -> None:
        """Leave it as it is."""

    def send(self, number: signal.Signals) -> None:
        """Raise RuntimeError."""
        raise RuntimeError(f"the server at {self.url} is not ours: {number.name} cannot be sent")


class ContainerClickHouse(ClickHouse):
    """The image of the pinned version; tables live as long as the object does."""

    name = "container"

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where Docker answers

        self._container: Any = DockerContainer(IMAGE).with_exposed_ports(8123)
        self._container.with_env("CLICKHOUSE_USER", USER).with_env("CLICKHOUSE_PASSWORD", PASSWORD)
        self._made = False

    def start(self) -> None:
        """Start the container, the same one again after a stop; Docker may give it another port."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        host, port = self._container.get_container_host_ip(), self._container.get_exposed_port(8123)
        self.url = f"http://{host}:{port}"
        wait_for_ping(self.url)

    def stop(self) -> None:
        """Stop the container; it is removed with the process that made it."""
        if self._made:
            self._container.get_wrapped_container().stop()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the container's first process."""
        container = self._container.get_wrapped_container()
        if number == signal.SIGSTOP:
            container.pause()
        elif number == signal.SIGCONT:
            container.unpause()
        else:
            container.kill(number.name)


class EmbeddedClickHouse(ClickHouse):
    """The embedded server, as its own process; it has an account `default` that may only read, too.

    Args:
        data_dir: Where its tables live; its own temporary directory when None.
    """

    name = "embedded server"
    program: tuple[str, ...] = ("deploy.embedded.clickhouse",)

    def __init__(self, data_dir: Path | None = None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="clickhouse-") if data_dir is None else None
        self.data_dir = Path(self._own.name) if self._own else Path(str(data_dir))
        self.port, self.native_port = free_port(), free_port()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process; the port stays the same from one start to the next."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read and closed when the process has ended
        self._process = launch(self.data_dir, (self.port, self.native_port), self._log, self.program)
        ready = self._process.stdout.readline() if self._process.stdout else ""
        if not ready.startswith("ready "):
            code, said = self._end()
            raise RuntimeError(f"the embedded ClickHouse did not start ({code}): {said}")
        self.url = ready.split()[1]

    def stop(self) -> None:
        """Send SIGTERM and wait for a clean exit; raises RuntimeError if it was none."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        code, said = self._end()
        if code != 0:
            raise RuntimeError(f"the embedded ClickHouse ended with {code}: {said}")

    def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        self.send(signal.SIGKILL)
        self._end()

    @property
    def pid(self) -> int:
        """The process's id; raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the embedded ClickHouse does not run")
        return self._process.pid

    def pause(self) -> None:
        """Freeze it, and return when it stands."""
        freeze(self.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is None:
            self.stop()
            return
        self._throw_away()
        self._own.cleanup()

    def _throw_away(self) -> None:
        """End the process, whose tables nobody will see again: a clean exit drops each of them, for many seconds."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own group, see launch
            self._end()
        self.stop()  # which says so when it has ended by itself

    def _end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to stderr."""
        process, self._process = self._process, None
        if process is None:
            return 0, ""
        process.communicate(timeout=_STOP_S)
        with self._log as log:
            log.seek(0)
            return process.returncode, log.read().strip()


def launch(
    data_dir: Path, ports: tuple[int, int], log: IO[str], program: tuple[str, ...] = EmbeddedClickHouse.program
) -> subprocess.Popen[str]:
    """Start the embedded server's process, on ports for HTTP and native; it ends with this one, however this ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "password").write_text(PASSWORD)
    command = [sys.executable, "-m", *program, "--data-dir", str(data_dir)]
    command += ["--port", str(ports[0]), "--native-port", str(ports[1]), "--parent-pid", str(os.getpid())]
    # SYSTEM SHUTDOWN sends its signal to all processes of the group.
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)


def provide() -> ClickHouse:
    """Return the first ClickHouse there is, not started."""
    if address := os.environ.get(ADDRESS):
        return GivenClickHouse(address)
    passed_over = [f"{ADDRESS} is not set"]
    if docker_answers():
        return _after(ContainerClickHouse(), passed_over)
    return _after(EmbeddedClickHouse(), [*passed_over, "no Docker engine answers"])


def _after(clickhouse: ClickHouse, passed_over: list[str]) -> ClickHouse:
    clickhouse.passed_over = tuple(passed_over)
    return clickhouse


@functools.cache
def password_file() -> Path:
    """Return a file with the password of `USER`, for services that tests start."""
    descriptor, name = tempfile.mkstemp(prefix="clickhouse-password-")
    with os.fdopen(descriptor, "w") as file:
        file.write(PASSWORD)
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def docker_answers() -> bool:
    """Tell whether there is a Docker engine, not only its client."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_DOCKER_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wait_for_ping(url: str) -> None:
    """Wait until the server answers /ping; raises TimeoutError after a minute."""
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
                answer.read()
                return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no ClickHouse answers at {url}: {error}") from error
            time.sleep(0.1)
