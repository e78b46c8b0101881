"""ClickHouse's JDBC driver, with a command line around it: fetched from Maven Central once and kept in .cache."""

import csv
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

from deploy.embedded.kafka_distribution import CACHE, copy_dependencies, java, publish

VERSION: Final = "0.9.8"
_SQLLINE_VERSION: Final = "1.12.0"
_RUN_S: Final = 60.0
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace.tests</groupId><artifactId>jdbc</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>com.clickhouse</groupId><artifactId>clickhouse-jdbc</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency><groupId>sqlline</groupId><artifactId>sqlline</artifactId><version>{_SQLLINE_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def jars(cache: Path = CACHE) -> Path:
    """Return the directory with the jars, fetching it first when ``cache`` lacks it.

    Raises:
        NotAvailableError: Maven is missing, or could not fetch it.
    """
    target = cache / f"clickhouse-jdbc-{VERSION}"
    if not target.is_dir():
        draft = cache / f".clickhouse-jdbc-{VERSION}-{secrets.token_hex(4)}"
        try:
            copy_dependencies(f"clickhouse-jdbc {VERSION}", _POM, draft)
            publish(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def rows(url: str, user: str, *statements: str, password: str = "") -> list[list[str]]:
    """Run statements, and sqlline's own such as `!tables`; return header and rows as texts."""
    command = [java(), "-Xmx128m", "-cp", f"{jars()}/*", "sqlline.SqlLine", "-u", url, "-n", user, "-p", password]
    command += ["--outputformat=csv", "--silent=true", *(part for text in statements for part in ("-e", text))]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return list(csv.reader(ended.stdout.splitlines(), quotechar="'"))
