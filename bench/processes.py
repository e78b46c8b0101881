"""Processor time of process trees, and what comes out of several runs of one thing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the processor time (s) of a process, its threads and its children that live now, and theirs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S + sum(map(cpu_s, children))


def memory_mib(pid: int) -> float:
    """Return the resident memory (MiB) of a process and its children."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    resident = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(resident.split()[1]) / 1024 + sum(map(memory_mib, children))


@dataclass(frozen=True, slots=True)
class Figures:
    """Several runs' values of one quantity."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figures":
        """Return them in the order of the runs."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def short(self) -> str:
        """The median as text."""
        return f"{self.median:,.{self._digits}f}"

    @property
    def _digits(self) -> int:
        return 0 if self.median >= 100 else 1 if self.median >= 10 else 2

    def __str__(self) -> str:
        """Return the median, with the least and the largest behind it."""
        return f"{self.short} ({min(self.values):,.{self._digits}f}-{max(self.values):,.{self._digits}f})"
