"""Mistakes in what an operator sets: a command says one sentence, with exit code 2, and asks no server."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.__main__ import main
from tests.support.command import environ_of
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
_FILE = "consumer: CONSUMER_KAFKA_CONFIG_FILE: "


def away(**settings: str) -> dict[str, str]:
    """Return settings of servers that are away, and others, as environment variables."""
    nobody = f"127.0.0.1:{free_port()}"
    told = {"BOOTSTRAP_SERVERS": nobody, "CLICKHOUSE_URL": f"http://{nobody}", **settings}
    return {f"CONSUMER_{name}": text for name, text in told.items()}


def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start a command whose servers are away."""
    return subprocess.Popen(
        [sys.executable, "-m", "consumer", *arguments],
        cwd=ROOT,
        env=environ_of("CONSUMER_") | away(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a command in this process to its end, and returns its one sentence."""
    monkeypatch.setattr("consumer.__main__.start_logging", lambda _: None)  # logging and signals are the process's
    monkeypatch.setattr("consumer.service.signal.signal", lambda *_: None)
    for name in [name for name in os.environ if name.startswith("CONSUMER_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **settings: str) -> str:
        for name, text in away(HTTP_PORT=str(free_port()), **settings).items():
            monkeypatch.setenv(name, text)
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        output, said = capsys.readouterr()
        assert (end.value.code, output, said.count("\n")) == (2, "", 1), said
        return said.strip()

    return run


def test_the_process_says_one_sentence_behind_its_log_lines(tmp_path: Path) -> None:
    """The whole program, where librdkafka refuses a property: the other mistakes are made in this process."""
    path = tmp_path / "kafka.properties"
    path.write_text("security.protocol=sasl\n", "utf-8")

    process = start("run", KAFKA_CONFIG_FILE=str(path))
    output, said = process.communicate(timeout=WAIT_S)

    assert (process.returncode, output) == (2, ""), said
    *others, sentence = said.splitlines()
    assert all(line.startswith("{") for line in others), said
    assert sentence == f'{_FILE}Invalid value "sasl" for configuration property "security.protocol"'


def first_line(process: subprocess.Popen[str], message: str) -> dict[str, object]:
    """Return the first log line with this message, and end the command."""
    try:
        for line in process.stderr or ():
            if line.startswith("{") and json.loads(line)["message"] == message:
                found: dict[str, object] = json.loads(line)
                return found
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
    raise AssertionError(f"{message} was never said")


@pytest.mark.parametrize("command", ["run", "migrate", "audit"])
def test_a_password_file_that_is_not_there_is_named(command: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    """A volume that was not mounted."""
    path = tmp_path / "password"

    sentence = refused(command, CLICKHOUSE_PASSWORD_FILE=str(path))

    assert sentence == f"consumer: CONSUMER_CLICKHOUSE_PASSWORD_FILE: {path}: No such file or directory"


@pytest.mark.parametrize("command", ["run", "audit", "lag"])
def test_a_properties_file_that_is_not_there_is_named(
    command: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """The same for Kafka's."""
    path = tmp_path / "kafka.properties"

    assert refused(command, KAFKA_CONFIG_FILE=str(path)) == f"{_FILE}{path}: No such file or directory"


@pytest.mark.parametrize("command", ["run", "lag"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a secret without a name", "{path}, line 2: not key=value"),
        ("enable.auto.commit =true", "{path}, line 2: enable.auto.commit is set by headrace"),
        ("group.id=other", "{path}, line 2: group.id is the setting CONSUMER_GROUP_ID"),
        ("no.such.property=1", 'No such configuration property: "no.such.property"'),
        ("security.protocol=sasl", 'Invalid value "sasl" for configuration property "security.protocol"'),
        (
            "receive.message.max.bytes=1000",
            "Failed to create consumer: `receive.message.max.bytes` must be >= `fetch.max.bytes` + 512",
        ),
        ("stats_cb=yes", "{path}, line 2: stats_cb needs a function, which a file can't hold"),
    ],
)
def test_a_line_of_the_properties_file_that_can_not_be_meant(
    command: str, text: str, why: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """By its number where it may be a secret, in librdkafka's words where librdkafka does not take it."""
    path = tmp_path / "kafka.properties"
    path.write_text(f"# ours\n{text}\n", "utf-8")

    assert refused(command, KAFKA_CONFIG_FILE=str(path)) == _FILE + why.format(path=path)


@pytest.mark.parametrize(
    ("command", "needed", "file"),
    [
        ("lag", "BOOTSTRAP_SERVERS", "KAFKA_CONFIG_FILE"),
        ("migrate", "CLICKHOUSE_URL", "CLICKHOUSE_PASSWORD_FILE"),
        ("replay", "CLICKHOUSE_URL", "CLICKHOUSE_PASSWORD_FILE"),
    ],
)
def test_a_command_asks_for_no_other_server_than_its_own(
    command: str, needed: str, file: str, refused: Callable[..., str]
) -> None:
    """With that one's address alone it gets as far as that one's files; an empty variable is none."""
    others = {"BOOTSTRAP_SERVERS": "", "CLICKHOUSE_URL": ""} | {
        needed: "http://[::1]:9" if "URL" in needed else "[::1]:9"
    }

    sentence = refused(command, **others, **{file: "/not/there"})

    assert sentence == f"consumer: CONSUMER_{file}: /not/there: No such file or directory"


def test_lag_says_in_one_sentence_that_no_broker_answers() -> None:
    """Why, and nothing of what librdkafka says meanwhile."""
    process = start("lag", CLICKHOUSE_URL="")
    output, said = process.communicate(timeout=WAIT_S)

    assert (process.returncode, output) == (1, "")
    assert said.count("\n") == 1
    assert re.fullmatch(r"consumer: no broker answers within 10 s: \S+: .*Connection refused\n", said)


def test_migrate_says_whom_it_asks_and_what_it_waits_for() -> None:
    """An address that takes the connection and never answers, and one where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        asked = first_line(start("migrate", CLICKHOUSE_URL=f"http://127.0.0.1:{port}/path"), "asking ClickHouse")
    waits = first_line(start("migrate"), "waiting for ClickHouse")

    assert asked["host"] == f"127.0.0.1:{port}"
    assert (waits["attempt"], waits["reason"]) == (1, "ClickHouse is away: connection refused, or no such host")
