"""The command `headrace` itself."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from headrace.__main__ import main


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[object, str, str]]:
    """A function that runs a command in an empty directory without settings; returns its code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headrace.__main__._be_quiet", lambda _: None)  # logging is the process's
    monkeypatch.setenv("INGEST_SPOOL_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return end.value.code, *capsys.readouterr()

    return run


def test_it_tells_its_version(said: Callable[..., tuple[object, str, str]]) -> None:
    """The one of the package."""
    assert said("--version") == (0, f"headrace {version('headrace')}\n", "")


def test_help_lists_every_command_on_one_screen(said: Callable[..., tuple[object, str, str]]) -> None:
    """And loads none of them."""
    code, output, _ = said("--help")

    assert code == 0
    assert re.findall(r"^    (\w+) ", output, re.MULTILINE) == [
        "ingest",
        "consumer",
        "run",
        "find",
        "tail",
        "top",
        "doctor",
    ]
    assert len(output.splitlines()) <= 24


@pytest.mark.parametrize("command", ["find", "tail", "top", "doctor"])
def test_each_command_has_help_with_examples_and_exit_codes(
    said: Callable[..., tuple[object, str, str]], command: str
) -> None:
    """What scripts need to know stands there."""
    code, output, _ = said(command, "--help")

    assert code == 0
    assert "Exit code" in output
    assert f"  headrace {command}" in output


@pytest.mark.parametrize(
    "words",
    [
        ("fnd",),
        (),
        ("find",),
        ("find", "a b"),
        ("find", "x", "--window-s", "0"),
        ("find", "x", "--since", "2026-01-02", "--until", "2026-01-01"),
        ("find", "x", "--env", "/none"),
        ("tail", "--where", "x"),
        ("tail", "--from-offset", "3"),
        ("tail", "--from-offset", "3", "--from-time", "2026-01-01"),
        ("tail",),
        ("top", "--every-s", "-1"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    said: Callable[..., tuple[object, str, str]], words: tuple[str, ...]
) -> None:
    """On standard error, and nothing else."""
    code, output, errors = said(*words)

    assert (code, output) == (2, "")
    assert errors.startswith("headrace: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("find",), "headrace find --help"),
        (("tail", "--cuont", "3"), "headrace tail --help"),
        (("dcotor",), "headrace --help"),
        ((), "headrace --help"),
    ],
)
def test_a_mistake_says_where_the_help_is(
    said: Callable[..., tuple[object, str, str]], words: tuple[str, ...], shown: str
) -> None:
    """Of the command that was meant."""
    assert f"see `{shown}`" in said(*words)[2]


@pytest.mark.parametrize("words", [("find", "x"), ("tail",), ("top", "--once", "--every-s", "0.1"), ("doctor",)])
def test_without_any_setting_it_says_what_to_set(
    said: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Once, and the command goes on with what it can say."""
    monkeypatch.delenv("INGEST_SPOOL_DIR")

    _, _, errors = said(*words)

    assert errors.startswith("headrace: there are no settings: ")
    assert "--env" in errors


@pytest.mark.parametrize(
    ("command", "others"), [("consumer", "consumer"), ("ingest", "python -m ingest"), ("run", "--kafka-port")]
)
def test_the_services_are_behind_it(said: Callable[..., tuple[object, str, str]], command: str, others: str) -> None:
    """With their own options."""
    code, output, _ = said(command, "--help")

    assert code == 0
    assert others in output


def test_a_service_that_is_not_installed_is_one_sentence(
    said: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image has the libraries of one service only."""

    def lacks(_: str) -> None:
        raise ModuleNotFoundError(name="clickhouse_connect")

    monkeypatch.setattr("headrace.__main__.import_module", lacks)

    code, _, errors = said("consumer", "lag")

    assert code == 2
    assert errors == "headrace: `consumer` is not installed here: there is no clickhouse_connect\n"


def test_without_servers_everything_is_unknown(said: Callable[..., tuple[object, str, str]]) -> None:
    """The spool of this machine is asked all the same; what has no address is never "not there"."""
    code, output, _ = said("find", "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78")

    assert code == 3
    assert re.search(r"^spool +not there", output, re.MULTILINE)
    assert "CONSUMER_BOOTSTRAP_SERVERS is not set" in output
    assert output.splitlines()[-1].startswith("unknown: ")


def test_what_the_system_refuses_is_no_answer(
    said: Callable[..., tuple[object, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 would say "not found"."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("headrace.__main__._call", refuse)

    assert said("find", "x")[0] == 3


_LIBRARY: Final = """
import logging
from headrace.__main__ import _be_quiet

logging.getLogger("urllib3").setLevel(logging.WARNING)
_be_quiet({settings})
logging.getLogger("urllib3.connectionpool").warning("Retrying")
"""


@pytest.mark.parametrize(("settings", "is_told"), [({}, False), ({"CONSUMER_LOG_LEVEL": "DEBUG"}, True)])
def test_a_library_whose_logger_has_its_own_level_is_quiet_too(settings: dict[str, str], is_told: bool) -> None:  # noqa: FBT001  (a parameter)
    """In another process, because logging is the process's."""
    script = _LIBRARY.replace("{settings}", repr(settings))

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ("Retrying" in done.stderr) is is_told


_OF_THE_INGRESS: Final = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "clickhouse_connect":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing())
from headrace.__main__ import main
main(["find", "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"])
"""


def test_find_looks_into_the_spool_where_only_the_ingress_is_installed(tmp_path: Path) -> None:
    """Its image has no driver of ClickHouse; in another process, because this one has loaded it."""
    environ = {**os.environ, "INGEST_SPOOL_DIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", _OF_THE_INGRESS], env=environ, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (3, "")
    assert re.search(r"^spool +not there", done.stdout, re.MULTILINE)
    assert "there is no clickhouse_connect" in done.stdout
