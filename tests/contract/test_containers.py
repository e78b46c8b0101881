"""The images keep their promises, as far as their Dockerfiles say; tests/integration/test_images.py runs them."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Final

import pytest

from tests.support.containers import (
    IMAGE_OF,
    IMPORT_ALL,
    ROOT,
    SERVICES,
    build_context,
    compose_file,
    copied_files,
    environment,
    exec_form,
    part,
    settings_of,
    stages,
    state_directories,
    version,
)


@pytest.mark.parametrize("service", SERVICES)
def test_each_module_finds_what_it_imports_in_the_locked_packages(service: str) -> None:
    """Of all packages that are installed here, the image has those of its lock file alone."""
    lock = (ROOT / f"deploy/locks/{service}.txt").read_text()
    locked = {re.sub("[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    found = packages_distributions()
    here = {module: {re.sub("[-_.]+", "-", each).lower() for each in owners} for module, owners in found.items()}
    missing = {module for module, owners in here.items() if not owners & {*locked, "headrace"}}
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(missing), service, "schemas"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert run.stderr == ""
    assert {"flask", "clickhouse_connect"} & missing == {"flask" if service == "consumer" else "clickhouse_connect"}
    assert run.returncode == 0


@pytest.mark.parametrize("service", SERVICES)
def test_every_module_is_there_without_compiled_code(service: str) -> None:
    """As where no compiler was at the installation."""
    compiled = {
        "ingest": {
            "ingest.events.fresh_ids": "ingest.events.ids",
            "ingest.events.mark_counter": "ingest.events.structure",
            "ingest.events.plain_writer": "ingest.events.plain",
            "ingest.publishing.delivery_reports": "ingest.publishing.reports",
        },
        "consumer": {
            "consumer.kafka.record_reader": "consumer.kafka.messages",
            "consumer.clickhouse.container_writer": "consumer.clickhouse.containers",
        },
    }[service]
    told = [f"import {module}; print({module}.IS_COMPILED)" for module in compiled.values()]
    command = [sys.executable, "-c", "\n".join([IMPORT_ALL, *told]), ",".join(compiled), service]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert run.stdout == "False\n" * len(compiled), run.stderr


@pytest.mark.parametrize("service", IMAGE_OF)
def test_every_setting_exists_and_its_value_is_accepted(service: str) -> None:
    """`load` takes the container's environment, in which no name is misspelt and no required one is missing."""
    loaded = settings_of(service)
    prefix = f"{IMAGE_OF[service].upper()}_"
    given = {name.removeprefix(prefix).lower() for name in environment(service) if name.startswith(prefix)}

    assert given <= set(loaded.__struct_fields__)
    assert "bootstrap_servers" in given


@pytest.mark.parametrize("service", IMAGE_OF)
def test_a_container_is_given_settings_of_its_own_service_only(service: str) -> None:
    """INGEST_ variables go to the ingress, CONSUMER_ variables to the workers; a stray one would be ignored there."""
    prefixes = {name.split("_")[0] for name in environment(service)} & {"INGEST", "CONSUMER"}

    assert prefixes == {IMAGE_OF[service].upper()}


@pytest.mark.parametrize("service", IMAGE_OF)
def test_addresses_in_settings_are_those_of_services(service: str) -> None:
    """Every host:port that a setting names is a service of the file; Kafka's is the address that it advertises."""
    named = re.findall(r"(?:^|//|,)([a-z]+):(\d+)", "\n".join(environment(service).values()), flags=re.MULTILINE)
    known = {("kafka", "19092"), ("clickhouse", "8123"), ("valkey", "6379"), ("ingest", "8080"), ("registry", "8081")}

    assert named
    assert set(named) <= known
    assert {host for host, _ in named} <= set(compose_file()["services"])
    assert "INTERNAL://kafka:19092" in part("kafka")["environment"]["KAFKA_ADVERTISED_LISTENERS"]


_COMPILES: Final = "python:3.11.15-bookworm"
"""The same Python with a compiler."""


def test_one_base_serves_all_stages() -> None:
    """The environment is built by the very Python that runs it, which pyproject.toml allows."""
    firsts = {stages(service)[0].base for service in SERVICES}
    bases = {stage.base for service in SERVICES for stage in stages(service)[1:]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert firsts == {_COMPILES}
    assert len(bases) == 1  # with its patch release: it does not move by itself
    base = bases.pop()
    assert base.replace("slim-", "") == _COMPILES
    found = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", base)
    assert found is not None
    least = tuple(int(number) for number in project["requires-python"].removeprefix(">=").split("."))
    assert (int(found[1]), int(found[2])) >= least


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_as_a_user_without_rights(service: str) -> None:
    """USER is a number that is not root's, and owns the directories that the settings name; group 0 may write there."""
    image = stages(service)[-1]
    user = re.fullmatch(r"(\d+):(\d+)", image.last("USER"))

    assert user is not None
    assert int(user[1]) >= 10_000
    assert state_directories(service)
    for path in state_directories(service):
        assert re.search(rf"install -d -o {user[1]} -g 0 -m 0770 .*{path}\b", image.last("RUN")), path


@pytest.mark.parametrize("service", SERVICES)
def test_signals_reach_the_program(service: str) -> None:
    """ENTRYPOINT, CMD and HEALTHCHECK are lists: no shell stands between Docker and the process."""
    image = stages(service)[-1]

    assert exec_form(image.last("ENTRYPOINT")) == ["python", "-m", service]
    assert not image.last("CMD") or exec_form(image.last("CMD"))
    assert image.healthcheck()[:2] == ["python", "-c"]
    assert image.last("STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize(("service", "variable"), [("ingest", "INGEST_PORT"), ("consumer", "CONSUMER_HTTP_PORT")])
def test_the_healthcheck_asks_where_the_program_listens(service: str, variable: str) -> None:
    """One variable has the port that the image exposes, that the program takes and that the healthcheck reads."""
    image = stages(service)[-1]

    assert image.environment()[variable] == image.last("EXPOSE")
    assert f"os.environ['{variable}'] + '/healthz'" in image.healthcheck()[2]


@pytest.mark.parametrize("service", SERVICES)
def test_the_final_stage_brings_no_tools(service: str) -> None:
    """It installs no package; the environment comes whole from the stage before, and without pip."""
    build, image = stages(service)

    assert not re.search(r"apt|pip|gcc|build-essential", " ".join(image.all("RUN")))
    assert "--from=build /opt/headrace /opt/headrace" in image.all("COPY")
    assert any("venv --without-pip /opt/headrace" in command for command in build.all("RUN"))


def test_a_build_sees_what_it_copies_and_no_more() -> None:
    """Every COPY finds its files, and nothing else goes to the engine: no tests, no embedded parts, no history."""
    sources = [copied_files(stage) for service in SERVICES for stage in stages(service)]
    copied = {path for found in sources for paths in found.values() for path in paths}

    assert [name for found in sources for name, paths in found.items() if not paths] == []
    assert build_context() == copied
    assert {"schemas/event.avsc", "schemas/clickhouse/0001_events.sql", "ingest/__main__.py"} <= copied
    assert not [path for path in copied if path.startswith(("deploy/embedded", "tests", ".")) or ".pyc" in path]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_what_it_is(service: str) -> None:
    """Its labels have a title, a sentence and the project's version."""
    label = stages(service)[-1].last("LABEL")

    for name in ("title", "description"):
        assert re.search(rf'org\.opencontainers\.image\.{name}="[^"]+"', label)
    assert f'org.opencontainers.image.version="{version()}"' in label
