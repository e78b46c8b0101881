"""The wheel as `make test` unpacks it: tests start the ingress from there, compiled as in its image."""

from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The sources' own tree."""
TREE: Final = ROOT / ".venv/shipped"
_BUILT: Final = ROOT / ".venv/.shipped"  # Make's mark


@cache
def tree() -> Path:
    """Return the tree whose ingress to start: TREE, or ROOT while the wheel is older than what it is made of."""
    sources = [path for package in ("ingest", "schemas") for path in (ROOT / package).rglob("*") if _is_source(path)]
    is_new = _BUILT.exists() and _BUILT.stat().st_mtime >= max(path.stat().st_mtime for path in sources)
    return TREE if is_new else ROOT


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix not in {".so", ".pyc"}
