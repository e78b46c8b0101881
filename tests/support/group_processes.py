"""Worker processes that share a topic, a table and a load, for tests that stop, kill and freeze them."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.fake_table import value
from tests.support.fixtures_group import Group
from tests.support.kafka_clients import producer
from tests.support.log_members import until
from tests.support.shared_table import SharedTable

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 20.0
_PACE_S: Final = 0.02
Heard = tuple[float, str, list[int]]


class WorkerProcess:
    """One process; its output is a file `<name>-<moment>.out`, its log the same with `.log`."""

    def __init__(self, name: str, directory: Path, spec: dict[str, object]) -> None:
        self.name = name
        self._out = directory / f"{name}-{time.monotonic_ns()}.out"
        command = [sys.executable, "-m", "tests.support.group_member", json.dumps({"name": name, **spec})]
        with self._out.open("wb") as out, self._out.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=_ROOT, stdout=out, stderr=log)

    @property
    def heard(self) -> list[Heard]:
        """The listener's calls about any partition: when, what, which."""
        lines = self._out.read_text().splitlines(keepends=True)
        calls = [json.loads(line) for line in lines if line.endswith("\n")]
        return [(at_s, name, numbers) for at_s, name, numbers in calls if numbers]

    @property
    def owned(self) -> set[int]:
        """The partitions that it believes to own; none once it has ended."""
        owned: set[int] = set()
        for _, name, numbers in self.heard:
            owned = owned | set(numbers) if name == "assigned" else owned - set(numbers)
        return owned if self._process.poll() is None else set()

    def assert_alive(self) -> None:
        """Say why it ended, if it did."""
        assert self._process.poll() is None, self._logged

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_STOP_S) == 0, self._logged

    @property
    def _logged(self) -> str:
        return self._out.with_suffix(".log").read_text()[-3000:]

    def kill(self) -> None:
        """Kill it; a second call does nothing."""
        self._process.kill()
        self._process.wait(_STOP_S)

    def freeze(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)


class Workers:
    """The processes of a test, and the table behind them."""

    def __init__(self, group: Group, directory: Path, port: int, table: SharedTable) -> None:
        self.group, self.table = group, table
        self._directory = directory
        self._port = port
        self._all: list[WorkerProcess] = []

    def start(self, name: str, **settings: str | int) -> WorkerProcess:
        """Start a worker; a setting's dots are written as underscores."""
        given = {key.replace("_", "."): item for key, item in settings.items()}
        spec = {"topic": self.group.topic, "table": self._port, "properties": {**self.group.properties, **given}}
        self._all.append(WorkerProcess(name, self._directory, spec))
        return self._all[-1]

    def await_shared(self, *workers: WorkerProcess) -> None:
        """Wait until these have all partitions, each some, and have since inserted something of each."""

        def is_shared() -> bool:
            for worker in workers:
                worker.assert_alive()
            owned = [number for worker in workers for number in worker.owned]
            return all(worker.owned for worker in workers) and sorted(owned) == [0, 1, 2, 3]

        until(is_shared)
        count = len(self.table.applied)
        owners = {(worker.name, number) for worker in workers for number in worker.owned}
        until(lambda: owners <= {(block.member, block.number) for block in self.table.applied[count:]})

    def kill_all(self) -> None:
        """End what still runs."""
        for worker in self._all:
            worker.kill()

    @contextmanager
    def load(self) -> Iterator[Callable[[], int]]:
        """Produce to all partitions evenly; the value tells how many records each has when all are acknowledged."""
        sender, stop, counts = producer(self.group.broker.bootstrap_servers), threading.Event(), [0]

        def produce() -> None:
            while not stop.wait(_PACE_S):
                for number in range(4):
                    sender.produce(self.group.topic, value=value(), key=b"key", partition=number)
                counts[0] += 1
                sender.poll(0)

        def finish() -> int:
            stop.set()
            thread.join()
            assert sender.flush(_STOP_S) == 0
            return counts[0]

        thread = threading.Thread(target=produce, name="load")
        thread.start()
        try:
            yield finish
        finally:
            finish()
