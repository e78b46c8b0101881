"""`make run KAFKA=apache`: the pipeline on Apache Kafka, whose log outlives everything that is killed."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.conftest import start

SOAK_ONLY = pytest.mark.soak(only=True)


@SOAK_ONLY
@pytest.mark.timeout(400)
def test_everything_is_killed_at_once_and_every_event_is_a_row_once(data_dir: Path) -> None:
    """SIGKILL to all processes behind the last 201, and a new start: what was answered is there, nothing twice."""
    if shutil.which("java") is None:
        pytest.skip("java is not on the PATH")
    first = start(data_dir, "--kafka=apache")
    ping_ids = [ping_id for _ in range(40) for ping_id in first.post([{"eventType": "VIEW"}] * 25)]
    children = first.children()
    for pid in [first.process.pid, *children]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    first.process.communicate(timeout=60)

    second = start(data_dir, "--kafka=apache")
    rows = second.await_rows("SELECT toString(ping_id) AS id FROM headrace.events", len(ping_ids), 60)
    code = second.stop()

    assert sorted(str(row["id"]) for row in rows) == sorted(ping_ids)
    assert code == 0
