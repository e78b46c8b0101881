"""Where the commands get their settings."""

from pathlib import Path

import pytest

from headrace import environment
from headrace.environment import Environment
from headrace.services import Services


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a pipeline that runs in this directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".headrace/env"
    path.parent.mkdir()
    path.write_text(
        "# a comment\nexport CONSUMER_TOPIC='it''s \"one\"'\nexport INGEST_PORT=81\nexport PATH=/x:\"$PATH\"\n"
    )
    return path


def test_the_file_of_make_run_is_read_where_the_environment_says_nothing(run_file: Path) -> None:
    """Then `headrace find` works beside a running pipeline; PATH is not one of its settings."""
    found = environment.read({"PATH": "/bin"})

    assert found == Environment({"CONSUMER_TOPIC": 'its "one"', "INGEST_PORT": "81"}, ".headrace/env")
    assert run_file.exists()


def test_an_environment_with_settings_is_alone(run_file: Path) -> None:
    """Somebody who has set a server means that one, not the pipeline that happens to run here."""
    assert environment.read({"CONSUMER_TOPIC": "mine"}) == Environment({"CONSUMER_TOPIC": "mine"}, "")
    assert run_file.exists()


def test_a_file_that_is_named_is_read_and_the_environment_replaces_it(run_file: Path) -> None:
    """As with any other program."""
    found = environment.read({"INGEST_PORT": "82"}, str(run_file))

    assert found.variables == {"CONSUMER_TOPIC": 'its "one"', "INGEST_PORT": "82"}


@pytest.mark.parametrize("text", ["export CONSUMER_TOPIC='open", None])
def test_a_file_that_can_not_be_read_is_one_sentence(tmp_path: Path, text: str | None) -> None:
    """With its name."""
    path = tmp_path / "env"
    if text:
        path.write_text(text)

    with pytest.raises(ValueError, match=str(path)):
        environment.read({}, str(path))


@pytest.mark.parametrize("text", ["", "# nothing\n", "root:x:0:0\n", "export PATH=/bin\n"])
def test_a_file_without_a_setting_is_another_file(tmp_path: Path, text: str) -> None:
    """Everything would be unknown, and nobody would know why."""
    path = tmp_path / "env"
    path.write_text(text)

    with pytest.raises(ValueError, match="has no line such as"):
        environment.read({"CONSUMER_TOPIC": "mine"}, str(path))


def test_a_machine_of_the_ingress_needs_no_settings_of_workers() -> None:
    """What both services mean by the same name is taken from the ingress; ClickHouse stays unknown there."""
    services = Services(Environment({"INGEST_BOOTSTRAP_SERVERS": "kafka:9092", "INGEST_TOPIC": "t"}, ""))

    assert (services.consumer().bootstrap_servers, services.consumer().topic) == ("kafka:9092", "t")
    assert services.missing("BOOTSTRAP_SERVERS") == ""
    assert services.missing("CLICKHOUSE_URL") == "CONSUMER_CLICKHOUSE_URL is not set"


def test_the_settings_of_workers_come_first() -> None:
    """A machine with both."""
    both = {"INGEST_BOOTSTRAP_SERVERS": "a:1", "CONSUMER_BOOTSTRAP_SERVERS": "b:2", "INGEST_SPOOL_DIR": "/spool"}
    services = Services(Environment(both, ""))

    assert services.consumer().bootstrap_servers == "b:2"
    assert services.spool_dir() == Path("/spool")
