"""The settings that follow from the embedded pipeline's options, and the file that a shell reads them from."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from deploy.embedded.environment import (
    Options,
    console_command,
    consumer_environment,
    ingest_environment,
    worker_environment,
    write_environment,
)
from deploy.embedded.greeting import greeting, step


def options(data_dir: Path, console_port: int = 8090) -> Options:
    """Return the default ports with a data directory."""
    return Options(
        http_port=8080,
        clickhouse_port=8123,
        clickhouse_native_port=9000,
        kafka_port=9092,
        data_dir=str(data_dir),
        workers=1,
        console_port=console_port,
    )


def test_the_addresses_of_another_run_do_not_count(tmp_path: Path) -> None:
    """A shell that has read the file of an earlier run starts the pipeline on the ports of its options."""
    stale = {"INGEST_PORT": "1", "CONSUMER_CLICKHOUSE_URL": "http://127.0.0.1:1", "CONSUMER_TOPIC": "other"}

    ingest = ingest_environment(options(tmp_path), stale)
    consumer = consumer_environment(options(tmp_path), stale)

    assert ingest["INGEST_PORT"] == "8080"
    assert consumer["CONSUMER_CLICKHOUSE_URL"] == "http://127.0.0.1:8123"
    assert consumer["CONSUMER_TOPIC"] == "events"


def test_workers_have_an_account_that_may_do_their_work_only(tmp_path: Path) -> None:
    """Commands, which change tables, have another one."""
    stale = {"CONSUMER_CLICKHOUSE_USER": "default"}

    assert worker_environment(options(tmp_path), stale)["CONSUMER_CLICKHOUSE_USER"] == "headrace_worker"
    assert consumer_environment(options(tmp_path), stale)["CONSUMER_CLICKHOUSE_USER"] == "headrace"


def test_other_settings_of_the_environment_count(tmp_path: Path) -> None:
    """An operator tries a setting by exporting it."""
    given = {"CONSUMER_BATCH_AGE_S_MAX": "2", "INGEST_LOG_LEVEL": "debug"}

    assert consumer_environment(options(tmp_path), given)["CONSUMER_BATCH_AGE_S_MAX"] == "2"
    assert ingest_environment(options(tmp_path), given)["INGEST_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize("name", ["plain", "a b", "it's", '$HOME "x"', "größe"])
def test_a_shell_reads_the_settings(tmp_path: Path, name: str) -> None:
    """Whatever the directory is called, `python` is this one and every setting arrives whole."""
    directory = tmp_path / name
    directory.mkdir()
    path = write_environment(options(directory))
    script = '. "$1" && printf "%s\\n" "$CONSUMER_CLICKHOUSE_PASSWORD_FILE" "$INGEST_SPOOL_DIR" && command -v python'

    said = subprocess.run(["sh", "-c", script, "sh", str(path)], capture_output=True, text=True, check=True)

    password, spool, python = said.stdout.splitlines()
    assert password == str(directory / "clickhouse" / "password")
    assert spool == str(directory / "spool")
    assert Path(python).parent == Path(sys.executable).parent
    assert said.stderr == ""


@pytest.mark.parametrize(("kafka", "said"), [("embedded", "KAFKA=apache"), ("apache", "loses and doubles nothing")])
def test_the_greeting_fits_one_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka: Literal["embedded", "apache"], said: str
) -> None:
    """24 lines with the prompt, 82 columns at most: each address, the commands, which broker runs, and its limits."""
    monkeypatch.chdir(tmp_path)
    told = replace(options(Path(".headrace")), kafka=kafka)
    text = greeting(told, told.directory / "env")

    lines = text.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 82
    assert text.index("http://127.0.0.1:8090 ") == text.index("http://")  # the console's address is the first one
    for address in (
        "8080/collect/event",
        "8080/docs",
        "8080/headrace.js",
        "8080/metrics",
        "8123/play",
        ". .headrace/env",
        "headrace doctor",
        said,
    ):
        assert address in text


def test_without_a_console_none_is_named(tmp_path: Path) -> None:
    """Nobody is sent to a port where nothing listens, and other programs are told no address."""
    told = options(tmp_path, console_port=0)

    assert "CONSOLE" not in greeting(told, told.directory / "env")


def test_the_console_reads_the_metrics_where_they_are(tmp_path: Path) -> None:
    """INGEST_OPERATIONS_PORT moves them."""
    moved = console_command(options(tmp_path), {"INGEST_OPERATIONS_PORT": "9100"})

    assert "--metrics-url=http://127.0.0.1:9100/metrics" in moved
    assert "--metrics-url=http://127.0.0.1:8080/metrics" in console_command(options(tmp_path), {})


def test_a_step_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name stands there while it runs; the seconds follow when it has succeeded."""
    moments = iter([1.0, 3.5])

    with step("ClickHouse", lambda: next(moments)):
        assert capsys.readouterr().out.strip() == "ClickHouse"

    assert capsys.readouterr().out.strip() == "2.5 s"


def test_a_step_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The error's own sentence follows on the next line."""
    with pytest.raises(ValueError, match="no"), step("ClickHouse"):
        raise ValueError("no")

    assert capsys.readouterr().out.endswith("failed\n")
