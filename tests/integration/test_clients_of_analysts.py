"""Dataframes and dbt over the views: each in a separate virtual environment of hundreds of MB."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from docs.tables import ROOT
from tests.support.clickhouse import PASSWORD, USER
from tests.support.sold import sold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumer.clickhouse.client import Connection
    from tests.support.clickhouse import EmbeddedClickHouse

pytestmark = pytest.mark.soak(only=True)
_INSTALL_S = 900
_RUN_S = 300
DATAFRAMES = ("clickhouse-connect", "pandas", "pyarrow", "polars")
# Later ones fetch a part of themselves from GitHub when they are installed.
DBT = ("dbt-core>=1.9,<1.11", "dbt-clickhouse")


@pytest.fixture(scope="module")
def database(embedded_clickhouse: EmbeddedClickHouse) -> Iterator[Connection]:
    """The views over a visit that ends in a purchase."""
    with sold(embedded_clickhouse) as database:
        yield database


def environment(directory: Path, *packages: str) -> Path:
    """Make a virtual environment with these packages; return its programs' directory."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=_INSTALL_S)
    programs = directory / "bin"
    subprocess.run([programs / "pip", "install", "-q", *packages], check=True, timeout=_INSTALL_S)
    return programs


@pytest.mark.timeout(_INSTALL_S + _RUN_S)
def test_pandas_arrow_and_polars_read_the_views(
    embedded_clickhouse: EmbeddedClickHouse, database: Connection, tmp_path: Path
) -> None:
    """Every row, whatever its types."""
    programs = environment(tmp_path / "venv", *DATAFRAMES)
    account = [str(embedded_clickhouse.port), USER, PASSWORD, database.database]
    command = [str(programs / "python"), "-I", str(ROOT / "tests" / "support" / "dataframes.py"), *account]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_RUN_S).stdout
    found = json.loads(said)

    assert found["pandas"].pop("gross") == {"EUR": "9.9900"}
    for seen in found.values():
        assert seen == {view: len(database.query(f"SELECT * FROM {view}")) for view in seen}
        assert all(seen.values())


@pytest.mark.timeout(_INSTALL_S + 2 * _RUN_S)
def test_dbt_builds_the_package(embedded_clickhouse: EmbeddedClickHouse, database: Connection, tmp_path: Path) -> None:
    """Twice: the second run replaces the days of the incremental model, and its tests still pass."""
    programs = environment(tmp_path / "venv", *DBT)
    settings = {
        "DBT_CLICKHOUSE_PORT": str(embedded_clickhouse.port),
        "DBT_CLICKHOUSE_USER": USER,
        "DBT_CLICKHOUSE_PASSWORD": PASSWORD,
        "DBT_CLICKHOUSE_SCHEMA": f"{database.database}_dbt",
        "DBT_HEADRACE_DATABASE": database.database,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "HOME": str(tmp_path),
        "PATH": f"{programs}:/usr/bin:/bin",
    }
    package = str(ROOT / "deploy" / "dbt")
    where = ["--project-dir", package, "--profiles-dir", package]
    where += ["--target-path", str(tmp_path), "--log-path", str(tmp_path)]
    for command in (["source", "freshness"], ["build"], ["build"]):
        ended = subprocess.run(
            [str(programs / "dbt"), *command, *where],
            env=settings,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout

    kept = f"{database.database}_dbt.page_views_kept"
    assert database.query(f"SELECT count() AS n, uniqExact(ping_id) AS pages FROM {kept}") == [{"n": 1, "pages": 1}]
    assert "PASS" in ended.stdout
