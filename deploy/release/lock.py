"""Reads the lock files of both images: exact versions with hashes, made by `uv pip compile`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ("ingest", "consumer")
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$")
_HASH: Final = re.compile(r"^\s+--hash=(sha256):([0-9a-f]{64})\s*\\?$")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file: name, version, the marker of its environment ("" for any), and its files' SHA-256."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def lock_path(service: str) -> Path:
    """Return the lock file of an image."""
    return ROOT / "deploy/locks" / f"{service}.txt"


def read_lock(text: str) -> list[Pin]:
    """Return the packages of a lock file.

    Raises:
        ValueError: a line is neither a package with a version, nor a hash, nor a comment.
    """
    return list(_pins(text))


def _pins(text: str) -> Iterator[Pin]:
    found: tuple[str, str, str] | None = None
    hashes: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if one := _HASH.match(line):
            hashes.append(one[2])
        elif pin := _PIN.match(line):
            if found:
                yield Pin(*found, tuple(hashes))
            found, hashes = (pin[1].lower(), pin[2], (pin[3] or "").strip()), []
        else:
            raise ValueError(f"line {number} is no pinned package: {line.strip()[:80]}")
    if found:
        yield Pin(*found, tuple(hashes))
