"""Keeps what a bench saw, as JSON in bench/figures, and makes tables of it."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.processes import Figures

DIRECTORY: Final = Path(__file__).resolve().parent / "figures"
Rounds = dict[str, list[dict[str, float]]]
"""For each side, what each round showed."""


def machine() -> str:
    """Return the size of this machine and its Python in one line."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    gib = round(pages * page_bytes / 2**30)
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), {gib} GiB, Python {platform.python_version()}"


def keep(name: str, document: Mapping[str, Any]) -> None:
    """Write one bench's figures."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps({"machine": machine()} | dict(document), indent=1) + "\n")


def load(name: str) -> dict[str, Any]:
    """Return one bench's figures.

    Raises:
        FileNotFoundError: it has not been run.
    """
    document: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text())
    return document


def figures(rounds: Sequence[Mapping[str, float]], key: str) -> Figures:
    """Return one quantity of several rounds."""
    return Figures.of([seen[key] for seen in rounds])


def table(rounds: Rounds, keys: Mapping[str, str], first: str = "side") -> str:
    """Return a Markdown table, a row a side; `keys` are the quantities with their headings."""
    rows = [
        f"| {side} | {' | '.join(str(figures(seen, key)) for key in keys)} |" for side, seen in rounds.items() if seen
    ]
    return "\n".join((f"| {first} | {' | '.join(keys.values())} |", "|---" * (len(keys) + 1) + "|", *rows))
