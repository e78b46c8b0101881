"""Apicurio Registry: an open-source Schema Registry that also speaks Confluent's HTTP interface, from Maven Central.

It keeps what it has in memory. https://www.apicur.io/registry/docs/, "Using the Confluent compatible API".
"""

import http.client
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.kafka_distribution import CACHE, copy_dependencies, java, publish
from tests.support.ports import free_port

VERSION: Final = "2.6.13.Final"  # the newest that runs on Java 17
_START_S: Final = 100.0
_BASE: Final = "/apis/ccompat/v7"
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId><artifactId>apicurio</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>io.apicurio</groupId><artifactId>apicurio-registry-app</artifactId><version>{VERSION}</version>
      <type>zip</type><classifier>all</classifier>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
  </dependencies>
</project>
"""


def home() -> Path:
    """Return the directory with the program, fetching it first when the project's cache lacks it.

    Raises:
        NotAvailableError: Maven is missing, or could not fetch it.
    """
    target = CACHE / f"apicurio-{VERSION}"
    if not target.is_dir():
        draft = CACHE / f".apicurio-{VERSION}-{secrets.token_hex(4)}"
        try:
            copy_dependencies(f"Apicurio Registry {VERSION}", _POM, draft)
            (packed,) = draft.glob("*.zip")
            shutil.unpack_archive(packed, draft)
            packed.unlink()
            publish(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


@contextmanager
def apicurio(log_path: Path) -> Iterator[str]:
    """Run one; yield the URL of its Confluent interface.

    Raises:
        NotAvailableError: there is no Java, or it can't be fetched.
    """
    port = free_port()
    options = [f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1", "-Xmx512m", "-XX:TieredStopAtLevel=1"]
    with log_path.open("wb") as log:
        (program,) = home().glob("*-runner.jar")
        process = subprocess.Popen([java(), *options, "-jar", str(program)], stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + _START_S
        while not _answers(port):
            assert process.poll() is None, log_path.read_text()[-2000:]
            assert time.monotonic() < deadline_s, log_path.read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}{_BASE}"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"{_BASE}/subjects")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
