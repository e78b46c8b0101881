"""The wheel as `make test` unpacks it: tests start the ingress from there, compiled as in its image.

`python -m tests.support.shipped` prints the digest of what the wheel is made of, for deploy/ship.sh.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The sources' own tree."""
TREE: Final = ROOT / ".venv/shipped"
_DIGEST: Final = ROOT / ".venv/shipped.digest"
PACKED: Final = ("ingest", "schemas", "consumer", "clients", "headrace")
RULES: Final = ("pyproject.toml", "deploy/build_hook.py")


@cache
def tree() -> Path:
    """Return the tree whose ingress to start: TREE, or ROOT when the wheel was made of other sources."""
    is_same = TREE.is_dir() and _DIGEST.exists() and _DIGEST.read_text().strip() == digest()
    return TREE if is_same else ROOT


def digest(root: Path = ROOT) -> str:
    """Return the digest of the names and contents of all files that a tree's wheel is made of."""
    whole = hashlib.sha256()
    files = [path for package in PACKED for path in (root / package).rglob("*") if _is_source(path)]
    for path in sorted([*files, *(root / name for name in RULES)]):
        whole.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return whole.hexdigest()


def _is_source(path: Path) -> bool:
    return path.suffix != ".so" and "__pycache__" not in path.parts and path.is_file()


if __name__ == "__main__":
    print(digest())
