"""What hostile requests cost the ingress: one of each kind, and the worst second of them from one address.

    .venv/bin/python bench/attacks.py

Starts `python -m ingest` with its defaults before librdkafka's mock cluster, once for each attack. Prints the table of
docs/SECURITY.md: of one request the answer, the processor time, the memory that it adds and the bytes of its records;
of a second in which 32 connections send it as fast as they are answered, the answers, the processor time until all is
done, the memory, the bytes of the records, and the slowest of the probes that ask for /healthz meanwhile.
"""

import asyncio
import gzip
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from backports import zstd

from tests.support.front import Shelf, front
from tests.support.ingress import Ingress, ingress
from tests.support.mock_cluster import MockCluster

CONNECTIONS: Final = 32
SECOND_S: Final = 1.0
TIMES: Final = 5
MIB: Final = 1024**2
ONE: Final = ("attack", "answer", "CPU", "memory", "records")
A_SECOND: Final = ("a second: answers", "CPU", "memory", "records", "log", "slowest probe")
COLUMNS: Final = (*ONE, *A_SECOND)
_TICK_S: Final = 0.01  # /proc counts processor time in these


@dataclass(frozen=True)
class Attack:
    """One kind of request: its name, its body, and how that is coded."""

    name: str
    body: bytes
    coding: str = ""

    @property
    def head(self) -> bytes:
        """The request's head."""
        coding = f"Content-Encoding: {self.coding}\r\n" if self.coding else ""
        return (
            f"POST /collect/event HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{coding}"
            f"User-Agent: {'x' * 8000}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        ).encode()


def request(*events: bytes, headers: bytes = b"{}") -> bytes:
    """Return the JSON of a request."""
    return b'{"messageHeaders":%s,"messageBody":[%s]}' % (headers, b",".join(events))


def deep(objects: int) -> bytes:
    """Return an event with so many objects, each 26 deep in others."""
    tower = b'{"":' * 26 + b"0" + b"}" * 26
    return b'{"eventType":"VIEW","a":[%s]}' % b",".join([tower] * (objects // 26))


def named(first: int, count: int) -> bytes:
    """Return an event with so many names that nobody else has."""
    return json.dumps({"eventType": "VIEW"} | {f"name {first + n}": n for n in range(count)}).encode()


def attacks() -> list[Attack]:
    """Return what is tried."""
    view, text = b'{"eventType":"VIEW"}', b'{"eventType":"VIEW","x":"%s"}' % (b"x," * 124_000)
    long_header = b'{"a":"%s"}'
    return [
        Attack("a bomb: 100 MiB of zeros", zstd.compress(bytes(100 * MIB)), "zstd"),
        Attack("5 MiB of objects in objects", zstd.compress(request(*[deep(49_000)] * 20)), "zstd"),
        Attack("98,000 of them, in 100 events", zstd.compress(request(*[deep(936)] * 100)), "zstd"),
        Attack("5 MiB of text", gzip.compress(request(*[text] * 20)), "gzip"),
        Attack(
            "500 events, headers of 16 KB",
            zstd.compress(request(*[view] * 500, headers=long_header % (b"x" * 16_000))),
            "zstd",
        ),
        Attack(
            "500 events, headers of 3 KB",
            zstd.compress(request(*[view] * 500, headers=long_header % (b"x" * 3000))),
            "zstd",
        ),
        Attack("500 events", zstd.compress(request(*[view] * 500)), "zstd"),
        Attack("400,000 new names", gzip.compress(request(*[named(n * 20_000, 20_000) for n in range(10)])), "gzip"),
        Attack("2,000 new names", gzip.compress(request(*[named(n * 900, 900) for n in range(2)])), "gzip"),
        Attack("500 bad events", zstd.compress(request(*[b'{"eventType":5,"active":"x"}'] * 500)), "zstd"),
        Attack("no JSON", b"{" * 1000),
    ]


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def memory_mib(pid: int, name: str) -> float:
    """Return a figure of a process's memory: VmRSS, or VmHWM, the highest since `forget_highest`."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def forget_highest(pid: int) -> None:
    """Begin the highest memory anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def record_bytes(attack: Attack) -> int:
    """Return the bytes of the records that a request becomes, 0 when it is refused."""
    shelf = Shelf()
    headers = {"Content-Encoding": attack.coding, "Content-Type": "application/json", "User-Agent": "x" * 8000}
    front(shelf).test_client().post("/collect/event", data=attack.body, headers=headers)
    return sum(len(record.key) + len(record.value) for records in shelf.requests for record in records)


class Sender:
    """Sends one kind of request over connections that it keeps, and counts the answers by status."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._port = port
        self._bytes = attack.head + attack.body
        self.statuses: Counter[int] = Counter()

    async def once(self) -> None:
        """Send one."""
        await self._connection(time.monotonic())

    async def run(self, until_s: float) -> None:
        """Send until a moment (monotonic), and wait for what was begun."""
        while time.monotonic() < until_s:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._connection(until_s)

    async def _connection(self, until_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            is_open = True
            while is_open:
                writer.write(self._bytes)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
                self.statuses[int(head.split()[1])] += 1
                is_open = "connection: close" not in head and time.monotonic() < until_s
        finally:
            writer.close()


def send_for(port: int, attack: Attack, seconds: float, connections: int, answers: Connection) -> None:
    """Send, in its own process."""
    sender = Sender(port, attack)

    async def all_at_once() -> None:
        until_s = time.monotonic() + seconds
        await asyncio.gather(*(sender.run(until_s) for _ in range(connections)))

    asyncio.run(all_at_once())
    answers.send(dict(sender.statuses))


def while_sending(collector: Ingress, attack: Attack, seconds: float, connections: int) -> tuple[Counter[int], float]:
    """Send, and return the answers by status and the slowest probe (ms)."""
    here, there = multiprocessing.Pipe()
    sending = multiprocessing.Process(target=send_for, args=(collector.port, attack, seconds, connections, there))
    sending.start()
    probes = [0.0]
    while not here.poll(0.05):
        began_s = time.monotonic()
        assert collector.status("/healthz", 60) == 200
        probes.append((time.monotonic() - began_s) * 1000)
    sending.join()
    return Counter(here.recv()), max(probes)


def settled_cpu_s(pid: int) -> float:
    """Return the processor time of a process once it is idle."""
    before = -1.0
    while (now := cpu_s(pid)) > before + _TICK_S:
        before = now
        time.sleep(0.3)
    return now


def measure(attack: Attack, bootstrap_servers: str) -> str:
    """Return an attack's row of the table."""
    with tempfile.TemporaryDirectory(prefix="headrace-attacks-") as directory:
        limits = {"rate_limit_requests": 1000, "rate_limit_window_s": 60}
        with ingress(Path(directory), bootstrap_servers, topic="events", **limits) as collector:
            (pid,) = collector.workers
            ordinary = Attack("", request(b'{"eventType":"VIEW"}'))
            while_sending(collector, ordinary, 0.2, 2)  # what is made at the first request is not the attack's
            answers, alone_cpu_s, alone_mib = alone(collector, pid, attack)
            before_s, before_mib, log = settled_cpu_s(pid), memory_mib(pid, "VmRSS"), collector.log_path.stat().st_size
            forget_highest(pid)
            statuses, probe_ms = while_sending(collector, attack, SECOND_S, CONNECTIONS)
            second_s = settled_cpu_s(pid) - before_s
            second_mib = memory_mib(pid, "VmHWM") - before_mib
            log_kib = (collector.log_path.stat().st_size - log) / 1024
            assert collector.workers == [pid]
    size = record_bytes(attack)
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    cells = (
        f"{attack.name} ({len(attack.body):,} bytes)",
        "/".join(map(str, sorted(answers))),
        f"{alone_cpu_s * 1000:.0f} ms",
        f"{alone_mib:.0f} MiB",
        f"{size / 1024:,.0f} KiB",
        told,
        f"{second_s:.1f} s",
        f"{second_mib:.0f} MiB",
        f"{size * statuses[201] / MIB:,.0f} MiB",
        f"{log_kib:.0f} KiB",
        f"{probe_ms:.0f} ms",
    )
    return f"| {' | '.join(cells)} |"


def alone(collector: Ingress, pid: int, attack: Attack) -> tuple[set[int], float, float]:
    """Send a few one after the other; return the answers, and of one the processor time (s) and the memory (MiB)."""
    before_s, before_mib = settled_cpu_s(pid), memory_mib(pid, "VmRSS")
    forget_highest(pid)
    answers: set[int] = set()
    for _ in range(TIMES):
        sender = Sender(collector.port, attack)
        asyncio.run(sender.once())
        answers |= set(sender.statuses)
    return answers, (settled_cpu_s(pid) - before_s) / TIMES, memory_mib(pid, "VmHWM") - before_mib


def main(show: Callable[[str], None] = print) -> None:
    """Print the table."""
    show(f"| {' | '.join(COLUMNS)} |")
    show("|---" * len(COLUMNS) + "|")
    with MockCluster() as mock:
        mock.create_topic("events", partitions=2)
        for attack in attacks():
            show(measure(attack, mock.bootstrap_servers))


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
