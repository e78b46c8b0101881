"""`python -m deploy.release.pin`: pins images by digest in Dockerfiles and compose files, for a release.

A tag can be moved to another image; a digest names its content. On the main branch images have tags, so that updates of
the base come by themselves; the release branch has `name:tag@sha256:…`, written by this, from what the registry says.

It speaks the registry's HTTP API (https://distribution.github.io/distribution/spec/api/), with the anonymous token that
public registries ask for.
"""

import argparse
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.release.lock import ROOT

FILES: Final = ("deploy/Dockerfile.ingest", "deploy/Dockerfile.consumer", "docker-compose.yml")
OURS: Final = "headrace/"
"""Images of this project are built by the release, and pinned when they are pushed."""
_IMAGE: Final = re.compile(
    r"^(\s*(?:FROM|image:)\s+)(?P<name>[\w./-]+(?::\d+/[\w./-]+)?:[\w.-]+)(@sha256:[0-9a-f]{64})?", re.MULTILINE
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_OCI: Final = "application/vnd.oci.image"
_DOCKER: Final = "application/vnd.docker.distribution.manifest"
_INDEX: Final = f"{_OCI}.index.v1+json, {_DOCKER}.list.v2+json, {_OCI}.manifest.v1+json, {_DOCKER}.v2+json"
_TIMEOUT_S: Final = 20.0
_UNAUTHORIZED: Final = 401
_DOCKER_HUB: Final = "registry-1.docker.io"

DigestOf = Callable[[str], str]
"""Takes name:tag, and returns its digest."""


class NoDigestError(Exception):
    """A registry does not say an image's digest; the message is one sentence."""


def images_of(text: str) -> list[str]:
    """Return the images that a Dockerfile or a compose file names, without digests and without ours."""
    names = [found["name"] for found in _IMAGE.finditer(text)]
    return sorted({name for name in names if not name.startswith(OURS)})


def pinned(text: str, digests: Mapping[str, str]) -> str:
    """Return a file's text with a digest behind each image that has one."""

    def with_digest(found: re.Match[str]) -> str:
        digest = digests.get(found["name"])
        return f"{found[1]}{found['name']}@{digest}" if digest else found[0]

    return _IMAGE.sub(with_digest, text)


def unpinned(text: str) -> list[str]:
    """Return the images of a file that have no digest."""
    return sorted({one["name"] for one in _IMAGE.finditer(text) if not one[3] and not one["name"].startswith(OURS)})


def digest_of(image: str, scheme: str = "https") -> str:
    """Ask an image's registry for the digest of its index.

    Raises:
        NoDigestError: the registry is away, or has no such image.
    """
    name, _, tag = image.rpartition(":")
    host, repository = _place(name)
    request = urllib.request.Request(  # noqa: S310  (a registry's address)
        f"{scheme}://{host}/v2/{repository}/manifests/{tag}", method="HEAD", headers={"Accept": _INDEX}
    )
    try:
        digest = _digest(request)
    except (OSError, ValueError) as error:
        raise NoDigestError(f"{image}: {host} does not say its digest: {error}") from error
    if not _DIGEST.fullmatch(digest):
        raise NoDigestError(f"{image}: {host} says no digest")
    return digest


def _digest(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  (as above)
            return str(answer.headers.get("Docker-Content-Digest", ""))
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != _UNAUTHORIZED or request.has_header("Authorization") or not challenge.startswith("Bearer "):
            raise
        request.add_header("Authorization", f"Bearer {_token(challenge)}")
    return _digest(request)


def _token(challenge: str) -> str:
    """Return the anonymous token that a registry's challenge asks for."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    with urllib.request.urlopen(f"{asked.get('realm', '')}?{query}", timeout=_TIMEOUT_S) as answer:  # noqa: S310  (the registry's)
        told = json.load(answer)
    return str(told.get("token") or told.get("access_token"))


def _place(name: str) -> tuple[str, str]:
    """Return an image's registry and repository: a first part with a dot or a port is a registry."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first):
        return first, rest
    return _DOCKER_HUB, name if slash else f"library/{name}"


def main(argv: list[str] | None = None, digest: DigestOf = digest_of) -> None:
    """Pin the images of files, or check that they are pinned."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release.pin", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which images have no digest; exit code 1")
    parser.add_argument("files", nargs="*", default=[str(ROOT / name) for name in FILES])
    given = parser.parse_args(argv)
    texts = {Path(name): Path(name).read_text("utf-8") for name in given.files}
    if given.check:
        left = [f"{path.name}: {image}" for path, text in texts.items() for image in unpinned(text)]
        sys.exit("\n".join(f"{line} has no digest" for line in left) if left else 0)
    try:
        digests = {
            image: digest(image) for image in sorted({name for text in texts.values() for name in images_of(text)})
        }
    except NoDigestError as error:
        sys.exit(str(error))
    for path, text in texts.items():
        path.write_text(pinned(text, digests), "utf-8")
    for image, one in digests.items():
        print(f"{image}@{one}")  # noqa: T201  (the command's answer)


if __name__ == "__main__":
    main()
