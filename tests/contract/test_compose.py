"""The compose file keeps its promises, as far as can be said without an engine."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import consumer.settings
from deploy.embedded import kafka_distribution
from tests.support.containers import (
    IMAGE_OF,
    ROOT,
    SERVICES,
    compose_file,
    environment,
    part,
    settings_of,
    stages,
    state_directories,
    version,
    volumes,
)

ONCE = {"topics", "password", "migrate", "schemas"}  # they end; all others run
SECONDS = {"s": 1, "m": 60, "h": 3600}
COMPOSE_PROGRAMS = (["docker", "compose"], ["docker-compose"])


def seconds(duration: str) -> int:
    """Return a duration of the compose file, which has one number and one unit."""
    return int(duration[:-1]) * SECONDS[duration[-1]]


def test_the_topics_are_those_of_the_settings() -> None:
    """The one-shot service makes the topics that both services use, and no broker makes others by itself."""
    made = set(re.findall(r"--topic (\S+)", part("topics")["command"][-1]))

    for service in ("ingest", "consumer"):
        loaded = settings_of(service)
        assert {loaded.topic, loaded.dead_letter_topic} == made
    assert part("kafka")["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_offsets_are_kept_as_long_as_any_topic() -> None:
    """A group that was off for as long as its records are kept finds its offsets and its intents."""
    kept_ms = [int(text) for text in re.findall(r"retention\.ms=(\d+)", part("topics")["command"][-1])]

    assert int(part("kafka")["environment"]["KAFKA_OFFSETS_RETENTION_MINUTES"]) * 60_000 >= max(kept_ms)


def test_no_secret_stands_in_an_environment_variable() -> None:
    """A variable of any service whose name tells of a secret is the path of a file on the volume of secrets."""
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE")
    for service in compose_file()["services"]:
        for name, value in part(service).get("environment", {}).items():
            if secret.search(name):
                assert name.endswith("_FILE"), name
                assert Path(value).parent == Path("/run/secrets")
                assert volumes(service)["/run/secrets"] == "secrets"
            assert not re.search(r"://[^/]*:[^/]*@", str(value)), f"{name} has a password in its address"


def test_only_the_maker_of_secrets_may_write_them() -> None:
    """Everybody else mounts the volume read-only."""
    mounts = {service: text for service in compose_file()["services"] for text in part(service).get("volumes", [])}
    writers = [service for service, text in mounts.items() if text.startswith("secrets:") and not text.endswith(":ro")]

    assert writers == ["password"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the script gives the file to another user, which only root may do")
def test_the_password_is_made_once_and_only_for_its_readers(tmp_path: Path) -> None:
    """The script of the one-shot service makes a random password that fits into XML, and keeps one that is there."""
    command = [text.replace("/run/secrets", str(tmp_path)) for text in part("password")["entrypoint"]]
    file = tmp_path / "clickhouse_password"

    subprocess.run(command, check=True, timeout=120)
    made = file.read_text().strip()
    subprocess.run(command, check=True, timeout=120)

    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", made)
    assert file.read_text().strip() == made
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (10001, 0o600)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_every_service_that_runs_has_a_healthcheck_and_comes_back() -> None:
    """Its own or its image's; it is started again after a crash and after the machine's restart."""
    for service in set(compose_file()["services"]) - ONCE:
        assert part(service)["restart"] == "unless-stopped", service
        assert "healthcheck" in part(service) or stages(IMAGE_OF[service])[-1].healthcheck(), service


def test_services_that_end_are_not_started_again() -> None:
    """A one-shot service stays down, and is not called unhealthy for having ended."""
    for service in ONCE:
        assert part(service)["restart"] == "no"
        assert service not in IMAGE_OF or part(service)["healthcheck"] == {"disable": True}


def test_everybody_waits_for_what_it_needs() -> None:
    """Each dependency has a condition: one-shot services have succeeded, the others are healthy."""
    for service in compose_file()["services"]:
        for needed, how in part(service).get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONCE else "service_healthy"
            assert how == {"condition": expected}, f"{service} -> {needed}"
    assert set(part("consumer")["depends_on"]) == {"topics", "migrate"}
    assert "clickhouse" not in part("ingest")["depends_on"]


def test_only_who_observes_needs_the_profile() -> None:
    """The pipeline starts without it, and waits for none of these; each of them is behind it."""
    behind = {
        name: service["profiles"] for name, service in compose_file()["services"].items() if "profiles" in service
    }

    assert behind == {name: ["observe"] for name in ("canary", "prometheus", "grafana", "registry", "schemas", "akhq")}
    for name, service in compose_file()["services"].items():
        assert name in behind or not behind.keys() & set(service.get("depends_on", ())), name


def test_files_of_the_project_are_mounted_where_they_are_looked_for() -> None:
    """Prometheus's and Grafana's files exist, and cannot be changed from the container."""
    mounts = [
        text.split(":") for name in ("prometheus", "grafana") for text in part(name)["volumes"] if text.startswith("./")
    ]

    assert {source: target for source, target, _ in mounts} == {
        "./deploy/prometheus": "/etc/prometheus",
        "./deploy/grafana/provisioning": "/etc/grafana/provisioning",
        "./deploy/grafana/dashboards": "/etc/headrace/dashboards",
    }
    assert all((ROOT / source).is_dir() and mode == "ro" for source, _, mode in mounts)


def test_workers_can_be_any_number() -> None:
    """Nothing of a worker can be there only once: no name, no port of the machine, a partition for each."""
    assert not part("consumer").keys() & {"container_name", "hostname", "ports", "network_mode"}
    assert "CONSUMER_GROUP_INSTANCE_ID" not in environment("consumer")
    partitions = re.search(r"--topic events --partitions (\d+)", part("topics")["command"][-1])
    assert partitions is not None
    assert int(partitions[1]) >= 4


def test_ports_are_published_on_this_machine_alone() -> None:
    """Nobody on the network reaches a broker without a password."""
    published = [port for service in compose_file()["services"] for port in part(service).get("ports", [])]

    assert published
    assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_what_must_outlive_a_container_is_on_a_named_volume() -> None:
    """Every volume that is used is declared and none is declared in vain; state has one each."""
    used = {volume for service in compose_file()["services"] for volume in volumes(service).values()}

    assert used == set(compose_file()["volumes"])
    assert part("kafka")["environment"]["KAFKA_LOG_DIRS"] in volumes("kafka")
    assert "/var/lib/clickhouse" in volumes("clickhouse")
    for service in SERVICES:
        assert state_directories(service) <= set(volumes(service)), service


def test_a_worker_has_time_to_drain() -> None:
    """Compose kills it only after a rebalance and a drain, both as long as they may take, and 10 s more."""
    loaded = consumer.settings.load(environment("consumer"))

    assert seconds(part("consumer")["stop_grace_period"]) >= loaded.revoke_s_max + loaded.drain_s_max + 10


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The values of gunicorn's configuration in compose's environment."""
    for name, value in environment("ingest").items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))


def test_the_ingress_has_time_to_drain(gunicorn: dict[str, Any]) -> None:
    """Compose kills it only after gunicorn's own patience is over, and 10 s more."""
    assert seconds(part("ingest")["stop_grace_period"]) >= gunicorn["graceful_timeout"] + 10


def test_an_idle_connection_outlives_a_balancers(gunicorn: dict[str, Any]) -> None:
    """Balancers close after 60 s, and must be the ones that close first."""
    assert gunicorn["_settings"].keepalive_s > 60


def test_every_image_is_pinned() -> None:
    """No tag moves to another release by itself; ours have the project's version."""
    for service in compose_file()["services"]:
        image = part(service)["image"]
        if service in IMAGE_OF:
            assert image == f"headrace/{IMAGE_OF[service]}:{version()}"
        else:
            assert re.search(r":v?\d+\.\d+\.\d+", image), image


def test_each_image_of_ours_is_built_once() -> None:
    """One service builds it, from its Dockerfile; any other of the same image waits for that one and pulls nothing."""
    builders = {part(service)["image"]: service for service in IMAGE_OF if "build" in part(service)}

    assert sorted(IMAGE_OF[service] for service in IMAGE_OF if "build" in part(service)) == sorted(SERVICES)
    for service, image in IMAGE_OF.items():
        builder = builders[part(service)["image"]]
        assert part(builder)["build"] == {"context": ".", "dockerfile": f"deploy/Dockerfile.{image}"}
        assert part(service)["pull_policy"] == ("build" if service == builder else "never")
        assert service == builder or builder in part(service)["depends_on"]


def test_the_broker_is_the_one_of_the_tests() -> None:
    """What the compose file runs is what the tests have run on."""
    assert part("kafka")["image"] == part("topics")["image"] == f"apache/kafka:{kafka_distribution.VERSION}"


@pytest.mark.parametrize("service", IMAGE_OF)
def test_our_containers_may_do_nothing_but_run(service: str) -> None:
    """Read-only, without capabilities, below an init, with a bound on their logs."""
    assert part(service)["read_only"]
    assert part(service)["init"]
    assert part(service)["cap_drop"] == ["ALL"]
    assert part(service)["security_opt"] == ["no-new-privileges:true"]


def test_nothing_grows_without_a_bound() -> None:
    """Every container's log is bounded, and so is the memory of those that run."""
    for service in compose_file()["services"]:
        assert part(service)["logging"]["options"].keys() >= {"max-size", "max-file"}, service
    for service in set(compose_file()["services"]) - ONCE:
        assert part(service)["deploy"]["resources"]["limits"]["memory"], service


def test_clickhouse_may_open_many_files() -> None:
    """The default of 1024 descriptors is too few for a server of columns."""
    assert part("clickhouse")["ulimits"]["nofile"] == {"soft": 262_144, "hard": 262_144}


def test_compose_accepts_the_file() -> None:
    """`config` of every Compose that is installed, version 1 or 2, resolves the file to the same services."""
    programs = [program for program in COMPOSE_PROGRAMS if is_installed(program)]
    if not programs:
        pytest.skip("no Compose here: neither `docker compose` nor `docker-compose` (Debian's package docker-compose)")

    for program in programs:
        run = subprocess.run(
            [*program, "config", "--services"],
            cwd=ROOT,
            env=os.environ | {"COMPOSE_PROFILES": "observe"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, ""), program
        assert set(run.stdout.split()) == set(compose_file()["services"]), program


def is_installed(program: list[str]) -> bool:
    """Tell whether the program is there: `docker` may be, without its `compose`."""
    if not shutil.which(program[0]):
        return False
    return subprocess.run([*program, "version"], capture_output=True, timeout=60, check=False).returncode == 0
