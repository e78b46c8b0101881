"""The page of docs/RECOVERY.md about a lost broker, on three of them; its commands are run as they stand there."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.tables import ROOT
from tests.conftest import SOAK_ONLY
from tests.integration.test_recovery import blocks
from tests.support.clickhouse import ClickHouse
from tests.support.kafka import KafkaCluster
from tests.support.operator import Operator

pytestmark = SOAK_ONLY


@pytest.mark.timeout(300)
def test_a_broker_is_lost(
    kafka_cluster: KafkaCluster, clickhouse: ClickHouse, new_topic: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    """The others go on; the commands say what is weak, and that nothing has to be done."""
    database = request.getfixturevalue("empty_database")
    operator = Operator(kafka_cluster, clickhouse, database.database, (new_topic(partitions=2), new_topic()))
    assert operator.run("migrate")[0] == 0
    try:
        operator.send(10)
        operator.work()
        operator.await_rows(10)
        kafka_cluster.nodes[2].kill()
        operator.send(10, first=10)
        operator.await_rows(20)
        operator.await_status("idle", "/healthz")
        operator.stop()
        look, repair = blocks("A broker is lost", "sh")

        said, repaired = _run(operator, look), _run(operator, repair)
    finally:
        operator.close()

    assert "2 of 3 copies in sync now" in said
    assert "has 3 copies, 2 before an event is acknowledged" in said
    assert "nothing to do" in repaired
    assert "0 missing, 0 duplicates" in repaired


def _run(operator: Operator, commands: str) -> str:
    environ = operator.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
