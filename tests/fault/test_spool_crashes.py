"""A process that is killed while it writes to the spool: what was acknowledged is there, in order, and whole."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ingest.ports import NoMetrics
from ingest.publishing.ports import Record
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.file import SpoolFile
from ingest.spool.writer import SpoolWriter
from tests.fault.conftest import Oracle

_ROUNDS = 12
_THREADS = 8
_ROOT = Path(__file__).resolve().parents[2]


def write_for_ever(directory: Path) -> None:
    """Append requests of three records from many threads; tell each one on standard output after its commit."""
    spooler = SpoolWriter(SpoolDirectory(directory, SpoolBounds(2**40, 0)), 30, NoMetrics())

    def client(thread: int) -> None:
        number = 0
        while True:
            names = [f"{os.getpid()}-{thread}-{number}-{part}" for part in range(3)]
            asyncio.run(spooler.append([Record(name.encode(), os.urandom(random.randrange(3000))) for name in names]))
            os.write(1, f"{names[0]}\n".encode())  # one write is one line, whatever the other threads do
            number += 1

    for thread in range(_THREADS):
        threading.Thread(target=client, args=(thread,)).start()


def test_every_acknowledged_record_survives(tmp_path: Path, oracle: Oracle) -> None:
    """SIGKILL at random moments, a dozen times: no acknowledged request is missing, and none is there in part."""
    acknowledged: list[str] = []
    for _ in range(_ROUNDS):
        command = [sys.executable, "-m", "tests.fault.test_spool_crashes", str(tmp_path)]
        writer = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged.append(writer.stdout.readline().strip())
        time.sleep(random.uniform(0.02, 0.4))
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()

    keys, broken = [], 0
    for path in sorted(tmp_path.glob("*.db")):
        file = SpoolFile(path)
        for spooled in file.first(10**9, 2**50):
            keys.append(spooled.record.key.decode())
            broken += not spooled.is_whole
        file.close()
    requests = {key.rpartition("-")[0] for key in keys}
    unacknowledged = len(requests) - len(acknowledged)
    oracle.say(rounds=_ROUNDS, acknowledged=len(acknowledged), found=len(requests), unacknowledged=unacknowledged)
    assert {name.rpartition("-")[0] for name in acknowledged} <= requests
    assert unacknowledged <= _ROUNDS * _THREADS
    assert broken == 0
    assert sorted(keys) == sorted(f"{request}-{part}" for request in requests for part in range(3))
    in_order: dict[str, list[int]] = {}
    for key in keys:
        pid_and_thread, number, part = key.rsplit("-", 2)
        in_order.setdefault(pid_and_thread, []).append(int(number) * 3 + int(part))
    assert all(numbers == list(range(len(numbers))) for numbers in in_order.values())


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
