"""`python -m deploy.release.sbom DIRECTORY`: writes what each image holds of Python packages, as CycloneDX 1.6.

It is made of the lock files, from which the images are built with `--require-hashes`: so it names exactly the versions
that are in them, and the hashes that were checked.
"""

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from deploy.release.lock import ROOT, SERVICES, Pin, lock_path, read_lock


def sbom(service: str) -> str:
    """Return an image's SBOM as JSON.

    Raises:
        ValueError: the lock file is none.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    image = Component(
        name=f"headrace-{service}",
        version=version("headrace"),
        type=ComponentType.APPLICATION,
        bom_ref=f"headrace-{service}",
        purl=PackageURL("pypi", None, "headrace", str(project["version"])),
    )
    packages = [_component(pin) for pin in read_lock(lock_path(service).read_text("utf-8"))]
    bom = Bom(components=packages)
    bom.metadata.component = image
    bom.register_dependency(image, packages)
    return str(JsonV1Dot6(bom).output_as_string(indent=2))


def _component(pin: Pin) -> Component:
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{pin.name}=={pin.version}",
        purl=PackageURL("pypi", None, pin.name, pin.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in pin.hashes],
        description=f"in environments where {pin.marker}" if pin.marker else None,
    )


def main() -> None:
    """Write the SBOM of both images into a directory."""
    if len(sys.argv) != 2:  # noqa: PLR2004  (itself and the directory)
        sys.exit("usage: python -m deploy.release.sbom DIRECTORY")
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for service in SERVICES:
        path = directory / f"sbom-{service}.cdx.json"
        path.write_text(sbom(service) + "\n", "utf-8")
        print(path)  # noqa: T201  (the command's answer)


if __name__ == "__main__":
    main()
