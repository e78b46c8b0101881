"""The SBOM of each image."""

import json

import pytest

from deploy.release.lock import SERVICES, lock_path, read_lock
from deploy.release.sbom import sbom


@pytest.mark.parametrize("service", SERVICES)
def test_an_sbom_names_what_the_image_is_installed_from(service: str) -> None:
    """Each package of the lock file with its version and hashes, as CycloneDX."""
    told = json.loads(sbom(service))
    locked = {
        (pin.name, pin.version, frozenset(pin.hashes)) for pin in read_lock(lock_path(service).read_text("utf-8"))
    }

    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["name"] == f"headrace-{service}"
    assert {
        (one["name"], one["version"], frozenset(digest["content"] for digest in one["hashes"]))
        for one in told["components"]
    } == locked
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" for one in told["components"])
