"""The ingress is killed under load: what it has answered 201 is there after its restart."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.fault.conftest import Oracle, statuses
from tests.support.fleet import until
from tests.support.ingress import Ingress, ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import NO_ANSWER, load


def crash_repeatedly(crash: Callable[[], None], times: int, pause_s: float) -> None:
    """Crash something a few times, with time to come back in between."""
    for _ in range(times):
        time.sleep(pause_s)
        crash()


def test_killed_workers(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """SIGKILL of one of two workers, three times, while the broker is well and while it is frozen."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, workers=2) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(200)
        crash_repeatedly(collector.kill_worker, 3, 1)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 300)
        crash_repeatedly(collector.kill_worker, 3, 1.5)
        in_spool = collector.spooled()
        broker.nodes[0].resume()
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, in_spool=in_spool, drained_s=drained_s)
    assert set(statuses(requests)) <= {201, NO_ANSWER}
    assert in_spool > 0


def test_a_killed_master(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """SIGKILL of the master: its workers end by themselves, free the port, and the next start takes over the spool."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, workers=2) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(300)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 300)
        began_s = time.monotonic()
        collector.kill_master()
        ended_s = time.monotonic() - began_s
        in_spool = collector.spooled()
        collector.start()
        clients.await_count(len(clients.so_far) + 300)
        broker.nodes[0].resume()
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, ended_s=ended_s, in_spool=in_spool, drained_s=drained_s)
    assert set(statuses(requests)) <= {201, NO_ANSWER}
    assert in_spool > 0


def test_everything_killed_at_once(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """The machine goes down, as far as processes can tell: the spool is drained by hand, without an ingress."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, workers=2) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(100)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 600)
        collector.end()
        requests = clients.stop()
        in_spool = collector.spooled()
        broker.nodes[0].resume()
        said = drain_by_hand(collector)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, in_spool=in_spool, said=repr(said))
    assert in_spool > 0
    assert said == f"sent {in_spool} events, 0 left"
    assert not list(collector.spool.glob("*.db*"))


def drain_by_hand(collector: Ingress) -> str:
    """Run `python -m ingest spool drain` and return what it says."""
    command = [sys.executable, "-m", "ingest", "spool", "drain"]
    run = subprocess.run(command, env=collector.environ(), capture_output=True, text=True, timeout=60, check=True)
    return run.stdout.strip()


def test_a_corrupt_spool_file(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """A file that a crash of the disk has garbled is set aside and told; the others are drained."""
    with ingress(tmp_path, broker.bootstrap_servers, topic=events) as collector:
        broker.nodes[0].pause()
        with load(collector.port, tmp_path) as clients:
            clients.await_count(100)
            collector.end()
            requests = clients.stop()
        (whole,) = collector.spool.glob("*.db")
        garbled = whole.with_name("00000000000000000001-1.db")
        shutil.copy(whole, garbled)
        with garbled.open("r+b") as raw:
            raw.write(b"\xa5" * 4096)
        collector.start()
        broker.nodes[0].resume()
        account = oracle.prove(requests, broker, events)
        until(lambda: collector.figures()["spool_corrupt_files"] == 1, "told")
        oracle.tell(account, requests, kept=sorted(path.name for path in collector.spool.glob("*.corrupt")))
    assert (collector.spool / f"{garbled.name}.corrupt").read_bytes()[:4096] == b"\xa5" * 4096
    assert any(line["level"] == "CRITICAL" for line in collector.log_lines())
