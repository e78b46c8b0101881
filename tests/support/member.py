"""One worker process, and what a test does to it and learns from it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from weakref import WeakSet

from tests.support.freezing import await_frozen, freeze
from tests.support.zygote import FORKS, Forked, fork

ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 60.0
_STACKS_S: Final = 0.5
_SAID: Final = 12_000
_LIVING: Final[WeakSet["Member"]] = WeakSet()


class Member:
    """One worker process. Its log is a file; its pages are on its own port."""

    def __init__(self, module: str, environ: dict[str, str], log: Path, root: Path = ROOT) -> None:
        """Start `run` of a module, with the code of the tree at `root`."""
        self.log = log
        log.touch()
        self._url = f"http://127.0.0.1:{environ['CONSUMER_HTTP_PORT']}"
        self.process: Forked | subprocess.Popen[bytes]
        if FORKS and root == ROOT:
            self.process = fork(module, ["run"], environ, log)
        else:
            command = [sys.executable, "-m", module, "run"]
            with log.open("ab") as out:
                self.process = subprocess.Popen(command, cwd=root, env=environ, stdout=out, stderr=out)
        _LIVING.add(self)

    @classmethod
    def living(cls) -> Iterator["Member"]:
        """Yield the workers of this process's tests that run now."""
        return (member for member in list(_LIVING) if member.is_alive)

    @property
    def is_alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(_STOP_S)

    def pause(self) -> None:
        """Freeze it."""
        freeze(self.process.pid)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.await_exit()

    def await_exit(self, timeout_s: float = _STOP_S) -> int:
        """Return its exit code, negative for a signal."""
        return self.process.wait(timeout_s)

    def await_frozen(self, timeout_s: float = _STOP_S) -> None:
        """Wait until every thread stands: it was paused, or has paused itself.

        Raises:
            TimeoutError: it goes on, or has ended.
        """
        try:
            await_frozen(self.process.pid, timeout_s)
        except OSError:
            raise TimeoutError(f"it did not freeze: {self.said()[-2000:]}") from None

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text("utf-8")

    def state(self) -> str:
        """Return what it shows of itself, for the report of a failure: its health, and what each thread does."""
        health, metrics = self.page("/readyz"), self.page("/metrics")[1]
        lines = [line for line in metrics.splitlines() if line.startswith(("headrace_consumer_", "headrace_position"))]
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(_STACKS_S)
        return "\n".join([str(health), *lines, self.said()[-_SAID:]])

    def books(self) -> dict[str, dict[str, int]]:
        """Return what became of the records it read, per topic/partition, as the last line of its log states it.

        Fails unless each partition's book balances, and the line says so.
        """
        last = json.loads(self.said().splitlines()[-1])
        books: dict[str, dict[str, int]] = last["records"]
        assert last["message"] == "worker stopped", last
        assert last["balances"], books
        for place, book in books.items():
            ends = sum(book.get(name, 0) for name in ("rows_inserted", "dead_letters", "returned"))
            assert book.get("read", 0) == ends, place
        return books

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its pages; (0, why) when it does not answer."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def figure(self, name: str, **labels: str) -> float:
        """Return the sum over a metric's series that have these labels, 0 when there are none yet."""
        lines = [line for line in self.page("/metrics")[1].splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(want in line for want in wanted))

    def partitions(self) -> float:
        """Return how many partitions it owns, those of the dead letters too; fail if it has ended."""
        assert self.is_alive, self.said()[-2000:]
        return self.figure("headrace_consumer_partitions", state="owned")

    def inserted(self) -> float:
        """Return how many rows it has inserted, dead letters' too; fail if it has ended."""
        assert self.is_alive, self.said()[-2000:]
        return self.figure("headrace_consumer_records_total", outcome="rows_inserted")

    def figures(self) -> dict[str, float]:
        """Return the sum over each metric's series, from one page; 0 for what is not there."""
        sums: dict[str, float] = defaultdict(float)
        for line in self.page("/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                sums[name.partition("{")[0]] += float(value)
        return sums

    def resident_bytes(self) -> int:
        """Return the memory that it holds now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """Return the most memory that it ever held."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
