"""Apache Kafka as a directory of jars, fetched from Maven Central once and kept in .cache of the project."""

import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

VERSION: Final = "4.1.1"
_LOG4J_VERSION: Final = "2.24.3"  # the one that this Kafka brings; its binding to SLF4J does not come with it
_JAVA_AT_LEAST: Final = 17  # Kafka 4 servers run from 17 on
_FETCH_TIMEOUT_S: Final = 100.0  # measured: 2 s to 4 s; below the time limit of a test, which waits for it
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version></dependency>
  </dependencies>
</project>
"""

_LOG4J: Final = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


class NotAvailableError(Exception):
    """This can't run here; the message is the reason."""


def java() -> str:
    """Return the path of a Java that can run this Kafka.

    Raises:
        NotAvailableError: there is none, or it is too old.
    """
    path = shutil.which("java")
    if path is None:
        raise NotAvailableError("java is not on the PATH")
    shown = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    found = re.search(r'version "(\d+)', shown)
    if found is None or int(found[1]) < _JAVA_AT_LEAST:
        raise NotAvailableError(f"java is older than {_JAVA_AT_LEAST}: {shown.splitlines()[:1]}")
    return path


def home(cache: Path = CACHE) -> Path:
    """Return the directory with the jars and log4j2.properties, fetching it first when ``cache`` lacks it.

    Several runs may do so at once: each fills its own directory, the first to rename it wins.

    Raises:
        NotAvailableError: Maven is missing, or could not fetch it.
    """
    target = cache / f"kafka-{VERSION}-with-tools"
    if not target.is_dir():
        draft = cache / f".kafka-{VERSION}-{secrets.token_hex(4)}"
        try:
            _fetch(draft)
            publish(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _fetch(directory: Path) -> None:
    copy_dependencies(f"Kafka {VERSION}", _POM, directory)
    (directory / "log4j2.properties").write_text(_LOG4J)


def copy_dependencies(what: str, pom: str, directory: Path) -> None:
    """Fetch the jars that a POM depends on into a new directory; `what` is their name in an error.

    Raises:
        NotAvailableError: Maven is missing, or could not fetch them.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise NotAvailableError("mvn is not on the PATH")
    directory.mkdir(parents=True)
    (directory / "pom.xml").write_text(pom)
    command = [maven, "--batch-mode", "--quiet", "-f", str(directory / "pom.xml"), "dependency:copy-dependencies"]
    try:
        run = subprocess.run(
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={directory}"],
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotAvailableError(f"Maven did not fetch {what} within {_FETCH_TIMEOUT_S:.0f} s") from None
    if run.returncode:
        raise NotAvailableError(f"Maven could not fetch {what}: {run.stdout[-500:]}{run.stderr[-500:]}")


def publish(draft: Path, target: Path) -> None:
    """Rename a directory that was made beside its place, unless another run was first."""
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # else another run was first, and its directory is as good
            raise
