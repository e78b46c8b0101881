"""What a durable request costs: headrace beside a naive collector, an empty coroutine and a bare loop, in one run.

headrace and the naive collector answer when Apache Kafka has every event (acks=all). The empty coroutine runs on
headrace's own server and keeps nothing; the bare loop validates, encodes and produces the same bodies without HTTP.
Rounds alternate between the sides; a figure is the median of the rounds, with the least and the largest. Processor time
is that of a side's whole process tree. What each side answered 201 is counted against what its topic has. wrk sends;
everything shares this machine's processors.

Run `python -m bench.ingress` (6 minutes), or `--seconds 1 --rounds 3` for a look. The figures go to bench/figures.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.kept import Rounds, keep
from bench.processes import cpu_s, memory_mib
from bench.sample_events import START_MS, visit
from ingest.counters import EventCounters
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Sender, Validator
from ingest.memory import UNBOUNDED, Body
from schemas.codec import Encoder, read_schema
from schemas.event import read_catalogue
from tests.support.front import Shelf
from tests.support.ingress import Ingress
from tests.support.kafka import KafkaCluster
from tests.support.ports import free_port

_ROOT: Final = Path(__file__).resolve().parents[1]
SIZES: Final = (1, 10, 100)
HEADRACE: Final = "headrace"
NAIVE: Final = "naive collector"
EMPTY: Final = "empty coroutine"
LOOP: Final = "bare loop"
CONNECTIONS: Final = 32
HALF: Final = "half"
HALF_BESIDE: Final = "half, large beside"
_LARGE_BYTES: Final = 5 * 1024 * 1024 - 200_000
_LARGE_EVENT_BYTES: Final = 12_000
_LARGE_EVERY_S: Final = 0.1
_IDLE: Final = 10_000
_START_S: Final = 60.0
_PARTITIONS: Final = 4
_BODIES: Final = 200
_THREADS: Final = 32
# wrk's own report has no percentiles in a form for machines.
_SCRIPT: Final = """
local bodies = {}
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
local count = 0
request = function()
  count = count + 1
  return wrk.format("POST", "/collect/event", {["Content-Type"] = "application/json"}, bodies[count % #bodies + 1])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "us": %d, "refused": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f}\\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass
class Side:
    """A collector under load.

    Attributes:
        acknowledged: events that were answered 201.
        rounds: for each load, what each round showed.
    """

    name: str
    port: int
    pid: int
    topic: str
    broker_pid: int = 0
    acknowledged: int = 0
    rounds: Rounds = field(default_factory=dict)


def bodies(size: int) -> list[bytes]:
    """Return different requests of so many events."""
    chance = random.Random(size)
    events: list[dict[str, Any]] = []
    while len(events) < _BODIES * size:
        events += [event for _, event, _, _ in visit(chance, START_MS)]
    chance.shuffle(events)
    return [
        msgspec.json.encode({"messageBody": events[number * size : (number + 1) * size]}) for number in range(_BODIES)
    ]


def await_port(port: int) -> None:
    """Return when somebody listens.

    Raises:
        TimeoutError: nobody does.
    """
    limit_s = time.monotonic() + _START_S
    while time.monotonic() < limit_s:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")


@contextmanager
def naive(topic: str, bootstrap_servers: str) -> Iterator[Side]:
    """Run the naive collector."""
    port = free_port()
    gunicorn = [str(Path(sys.executable).with_name("gunicorn")), "-k", "gthread", "--threads", str(_THREADS)]
    command = [*gunicorn, "--bind", f"127.0.0.1:{port}", "bench.naive_collector:app"]
    environ = os.environ | {"BENCH_TOPIC": topic, "BENCH_BOOTSTRAP_SERVERS": bootstrap_servers}
    process = subprocess.Popen(command, cwd=_ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        yield Side(NAIVE, port, process.pid, topic)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def headrace(topic: str, bootstrap_servers: str, directory: Path) -> Iterator[Side]:
    """Run headrace's ingress, one process, as shipped but for the rate limit."""
    ours = Ingress(directory, bootstrap_servers, topic=topic, workers=1)
    ours.start()
    try:
        yield Side(HEADRACE, ours.port, ours.process.pid, topic)
    finally:
        ours.terminate()
        ours.await_end(60)


@contextmanager
def empty() -> Iterator[Side]:
    """Run the empty coroutine."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.empty_server", str(port)], cwd=_ROOT)
    try:
        await_port(port)
        yield Side(EMPTY, port, process.pid, "")
    finally:
        process.terminate()
        process.wait(30)


def send(side: Side, size: int, connections: int, seconds: int, directory: Path) -> dict[str, float]:
    """Load a side for some seconds and return what was seen."""
    script = directory / f"{size}.lua"
    if not script.exists():
        (directory / f"{size}.txt").write_bytes(b"\n".join(bodies(size)) + b"\n")
        script.write_text(_SCRIPT.replace("BODIES", str(directory / f"{size}.txt")))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    before_s, broker_s = cpu_s(side.pid), cpu_s(side.broker_pid)
    output = subprocess.run([*command, f"http://127.0.0.1:{side.port}"], capture_output=True, text=True, check=True)
    used_s, broker_s = cpu_s(side.pid) - before_s, cpu_s(side.broker_pid) - broker_s
    said = json.loads(next(line for line in output.stdout.splitlines() if line.startswith("{")))
    done = said["requests"] - said["refused"]
    side.acknowledged += done * size
    return {
        "cpu_us_per_event": used_s * 1e6 / max(1, done * size),
        "cpu_us_per_request": used_s * 1e6 / max(1, done),
        "broker_us_per_event": broker_s * 1e6 / max(1, done * size),
        "requests_per_s": done * 1e6 / said["us"],
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "refused": said["refused"],
        "broken": said["broken"],
        "memory_mib": memory_mib(side.pid),
    }


def bare_loop(topic: str, bootstrap_servers: str, size: int, seconds: float) -> float:
    """Return the processor time (us) an event of validating, encoding and producing the same bodies without HTTP."""
    validator = Validator(read_catalogue(), EventLimits(), "production")
    collector = Collector(validator, Encoder(read_schema("event"), 1), Shelf())
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 5})
    requests, events, number = bodies(size), 0, 0
    began_s, used_s = time.monotonic(), time.process_time()
    while time.monotonic() - began_s < seconds:
        text = requests[number % len(requests)]
        body, sender = Body(text, len(text), UNBOUNDED), Sender(int(time.time() * 1000))
        for record in collector.prepare(body, sender, EventCounters().open()).records:
            producer.produce(topic, record.value, record.key, on_delivery=lambda _error, _message: None)
            events += 1
        number += 1
        while len(producer) > 20_000:
            producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    return (time.process_time() - used_s) * 1e6 / events


def on_topic(topic: str, bootstrap_servers: str) -> int:
    """Return how many records a topic has."""
    reader = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "bench"})
    try:
        marks = [reader.get_watermark_offsets(TopicPartition(topic, number)) for number in range(_PARTITIONS)]
        return sum(high - low for low, high in marks)
    finally:
        reader.close()


def idle_connections(side: Side, count: int) -> dict[str, float]:
    """Return a side's memory with and without so many open connections that send nothing."""
    before_mib = memory_mib(side.pid)
    with ExitStack() as stack:
        for number in range(count):
            source = (f"127.0.0.{2 + number // 5000}", 0)  # one address has too few ports
            stack.enter_context(socket.create_connection(("127.0.0.1", side.port), 10, source))
        time.sleep(1)
        return {"before_mib": before_mib, "mib": memory_mib(side.pid), "connections": count}


@contextmanager
def large_requests(side: Side) -> Iterator[list[int]]:
    """Send a request of nearly 5 MiB every 100 ms, one at a time, to the end of the block; the value is the answers."""
    text = "".join(random.Random(1).choices("abcdefghijklmnop ", k=_LARGE_EVENT_BYTES))
    events = [{"eventType": "CLICK", "clientId": "web", "note": text}] * (_LARGE_BYTES // _LARGE_EVENT_BYTES)
    body = gzip.compress(msgspec.json.encode({"messageBody": events}))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    ended, answers = threading.Event(), []

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=30)
        while not ended.wait(_LARGE_EVERY_S):
            connection.request("POST", "/collect/event", body, headers)
            answer = connection.getresponse()
            answer.read()
            answers.append(answer.status)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()
    side.acknowledged += answers.count(HTTPStatus.CREATED) * len(events)


def steadily(side: Side, per_s: float, seconds: float, directory: Path) -> dict[str, float]:
    """Send one-event requests at an even rate; return what was seen."""
    numbers = (str(side.port), str(per_s), str(seconds), str(directory / "1.txt"))
    command = [sys.executable, "-m", "bench.steady", *numbers]
    output = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout
    seen: dict[str, float] = json.loads(output)
    side.acknowledged += int(seen["requests"] - seen["refused"])
    return seen | {"per_s": per_s}


def half_load(side: Side, rounds: int, seconds: float, directory: Path) -> None:
    """Measure a side's latency at half of the rate that it has shown, alone and beside large requests."""
    most = median(seen["requests_per_s"] for seen in side.rounds[load(1, CONNECTIONS)])
    for _ in range(rounds):
        side.rounds.setdefault(HALF, []).append(steadily(side, most / 2, seconds, directory))
        with large_requests(side) as answers:
            seen = steadily(side, most / 2, seconds, directory)
        refused = len(answers) - answers.count(HTTPStatus.CREATED)
        side.rounds.setdefault(HALF_BESIDE, []).append(seen | {"large": len(answers), "large_refused": refused})


def load(size: int, connections: int) -> str:
    """Return the name of a load."""
    return f"{size}x{connections}"


def measure(sides: list[Side], servers: str, options: argparse.Namespace, directory: Path) -> Rounds:
    """Load each side in turn, in rounds that alternate; return what the bare loop shows."""
    loop: Rounds = {}
    loads = [(size, CONNECTIONS) for size in options.sizes] + [(1, count) for count in options.connections]
    for side in sides:
        for size in options.sizes:
            send(side, size, CONNECTIONS, 2, directory)  # warm: code paths, connections, the broker's JIT
    for number in range(options.rounds):
        for size, connections in loads:
            for side in sides if number % 2 else reversed(sides):
                seen = send(side, size, connections, options.seconds, directory)
                side.rounds.setdefault(load(size, connections), []).append(seen)
        for size in options.sizes:
            used = bare_loop("loop", servers, size, options.seconds / 2)
            loop.setdefault(load(size, CONNECTIONS), []).append({"cpu_us_per_event": used})
    return loop


def check(sides: list[Side], servers: str) -> None:
    """Count what each side acknowledged against what its topic has.

    Raises:
        AssertionError: events were lost.
    """
    time.sleep(1)
    for side in sides:
        if side.topic:
            there = on_topic(side.topic, servers)
            print(f"{side.name}: {side.acknowledged} events acknowledged, {there} on the topic")
            assert there >= side.acknowledged, "events were lost"


def main() -> None:
    """Measure, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=int, default=3, help="of load a round (default: 3)")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--connections", type=int, nargs="*", default=[256, 1000], help="beside 32, at one event")
    asked.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="events a request")
    asked.add_argument("--idle", type=int, default=_IDLE, help="open connections for the memory; 0: none")
    asked.add_argument("--no-half", action="store_true", help="without the latency at half of the load")
    options = asked.parse_args()
    keep("ingress", run(options))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the sides, and return the figures."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaCluster(1))
        servers = broker.bootstrap_servers
        for topic in ("naive", "headrace", "loop"):
            broker.create_topic(topic, _PARTITIONS)
        ours = stack.enter_context(headrace("headrace", servers, directory))
        sides = [ours, stack.enter_context(naive("naive", servers)), stack.enter_context(empty())]
        for side in sides:
            side.broker_pid = broker.nodes[0].pid or 0
        loop = measure(sides, servers, options, directory)
        if not options.no_half:
            half_load(ours, options.rounds, options.seconds, directory)
        idle = idle_connections(ours, options.idle) if options.idle else {}
        check(sides, servers)
    sizes = {str(size): sum(map(len, bodies(size))) / _BODIES for size in SIZES}
    found = {side.name: side.rounds for side in sides} | {LOOP: loop}
    return {"sides": found, "idle": idle, "request_bytes": sizes}


if __name__ == "__main__":
    main()
