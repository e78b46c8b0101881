"""What a durable request costs: headrace beside a naive collector and beside a bare loop, in one run.

All answer when Apache Kafka has every event (acks=all). Rounds alternate between the sides; a figure is the median of
the rounds, with the least and the largest. Processor time is that of a side's whole process tree. What each side
answered 201 is counted against what its topic has. wrk sends; everything shares this machine's processors.

Run `python -m bench.ingress` (8 minutes), or `--seconds 2 --rounds 3` for a look. The figures go to bench/results.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.processes import Figures, cpu_s, memory_mib
from bench.sample_events import START_MS, visit
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder, read_schema
from schemas.event import read_catalogue
from tests.support.ingress import Ingress
from tests.support.kafka import KafkaCluster
from tests.support.ports import free_port

_ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = _ROOT / "bench" / "results" / "ingress.json"
SIZES: Final = (1, 10, 100)
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
        rounds: for each (events a request, connections), what each round showed.
    """

    name: str
    port: int
    pid: int
    topic: str
    acknowledged: int = 0
    rounds: dict[tuple[int, int], list[dict[str, float]]] = field(default_factory=dict)


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


@contextmanager
def naive(topic: str, bootstrap_servers: str) -> Iterator[Side]:
    """Run the naive collector."""
    port = free_port()
    gunicorn = [str(Path(sys.executable).with_name("gunicorn")), "-k", "gthread", "--threads", str(_THREADS)]
    command = [*gunicorn, "--bind", f"127.0.0.1:{port}", "bench.naive_collector:app"]
    environ = os.environ | {"BENCH_TOPIC": topic, "BENCH_BOOTSTRAP_SERVERS": bootstrap_servers}
    process = subprocess.Popen(command, cwd=_ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        yield Side("naive collector", port, process.pid, topic)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def headrace(topic: str, bootstrap_servers: str, directory: Path) -> Iterator[Side]:
    """Run headrace's ingress, one process, as shipped but for the rate limit."""
    ours = Ingress(directory, bootstrap_servers, topic=topic, workers=1)
    ours.start()
    try:
        yield Side("headrace", ours.port, ours.process.pid, topic)
    finally:
        ours.terminate()
        ours.await_end(60)


def send(side: Side, size: int, connections: int, seconds: float, directory: Path) -> dict[str, float]:
    """Load a side for some seconds and return what was seen."""
    script = directory / f"{size}.lua"
    if not script.exists():
        (directory / f"{size}.txt").write_bytes(b"\n".join(bodies(size)) + b"\n")
        script.write_text(_SCRIPT.replace("BODIES", str(directory / f"{size}.txt")))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script)]
    before_s = cpu_s(side.pid)
    output = subprocess.run([*command, f"http://127.0.0.1:{side.port}"], capture_output=True, text=True, check=True)
    used_s = cpu_s(side.pid) - before_s
    said = json.loads(next(line for line in output.stdout.splitlines() if line.startswith("{")))
    done = said["requests"] - said["refused"]
    side.acknowledged += done * size
    return {
        "cpu_us_per_event": used_s * 1e6 / max(1, done * size),
        "cpu_us_per_request": used_s * 1e6 / max(1, done),
        "requests_per_s": done * 1e6 / said["us"],
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "refused": said["refused"],
        "broken": said["broken"],
        "memory_mib": memory_mib(side.pid),
    }


def bare_loop(topic: str, bootstrap_servers: str, size: int, seconds: float) -> float:
    """Return the processor time (us) an event of validating, encoding and producing the same bodies without HTTP."""
    validator, encoder = Validator(read_catalogue(), EventLimits(), "production"), Encoder(read_schema("event"), 1)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 5})
    requests, events, number = bodies(size), 0, 0
    began_s, used_s = time.monotonic(), time.process_time()
    while time.monotonic() - began_s < seconds:
        for event in validator.read(requests[number % len(requests)], Sender(int(time.time() * 1000))).events:
            producer.produce(topic, encoder.encode(event), event["anonId"], on_delivery=lambda _error, _message: None)
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


def table(sides: list[Side], loop: Mapping[int, Figures]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| events a request | connections | side | CPU us/event | CPU us/request | requests/s | p50 ms | p99 ms |"
    yield "|---|---|---|---|---|---|---|---|"
    for size, connections in sides[0].rounds:
        for side in sides:
            rounds = side.rounds[size, connections]
            keys = ("cpu_us_per_event", "cpu_us_per_request", "requests_per_s", "p50_ms", "p99_ms")
            cells = [str(Figures.of([seen[key] for seen in rounds])) for key in keys]
            yield f"| {size} | {connections} | {side.name} | {' | '.join(cells)} |"
        if (size, connections) == (size, _THREADS):
            yield f"| {size} | | bare loop | {loop[size]} | | | | |"


def main() -> None:
    """Measure, print the table, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=float, default=5.0, help="of load a round (default: 5)")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--connections", type=int, nargs="*", default=[_THREADS])
    asked.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="events a request")
    options = asked.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaCluster(1))
        servers = broker.bootstrap_servers
        for topic in ("naive", "headrace", "loop"):
            broker.create_topic(topic, _PARTITIONS)
        sides = [
            stack.enter_context(headrace("headrace", servers, directory)),
            stack.enter_context(naive("naive", servers)),
        ]
        loop: dict[int, list[float]] = {}
        for size in options.sizes:
            for side in sides:
                send(side, size, _THREADS, 2, directory)  # warm: code paths, connections, the broker's JIT
        for number in range(options.rounds):
            for size in options.sizes:
                for connections in options.connections:
                    for side in sides if number % 2 else reversed(sides):
                        seen = send(side, size, connections, options.seconds, directory)
                        side.rounds.setdefault((size, connections), []).append(seen)
                loop.setdefault(size, []).append(bare_loop("loop", servers, size, options.seconds / 2))
        figures = {size: Figures.of(values) for size, values in loop.items()}
        for line in table(sides, figures):
            print(line)
        time.sleep(1)
        for side in sides:
            there = on_topic(side.topic, servers)
            print(f"{side.name}: {side.acknowledged} events acknowledged, {there} on the topic")
            assert there >= side.acknowledged, "events were lost"
        keep(sides, figures)


def keep(sides: list[Side], loop: Mapping[int, Figures]) -> None:
    """Write the figures."""
    RESULTS.parent.mkdir(exist_ok=True)
    document = {
        "sides": {
            side.name: {f"{size}x{connections}": rounds for (size, connections), rounds in side.rounds.items()}
            for side in sides
        },
        "bare loop, us an event": {str(size): figures.values for size, figures in loop.items()},
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(f"figures: {re.sub(f'^{_ROOT}/', '', str(RESULTS))}")


if __name__ == "__main__":
    main()
