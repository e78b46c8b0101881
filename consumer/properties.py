"""The properties of the group's member: what the worker pins, and what an operator adds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

PINNED: Final[Mapping[str, str | int | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Where to start is decided at assignment; an offset out of range must not be skipped silently.
    "auto.offset.reset": "error",
}


def read_properties(path: str) -> dict[str, str]:
    """Read librdkafka properties from a file of `key=value` lines; `#` starts a comment. "" is no file.

    Raises:
        ValueError: a line is no pair, or sets what the worker pins.
    """
    if not path:
        return {}
    pairs: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        key, equals, value = line.strip().partition("=")
        if not key or key.startswith("#"):
            continue
        if not equals or key in PINNED:
            raise ValueError(f"{path}, line {number}: {'set by headrace' if equals else 'not key=value'}: {key}")
        pairs[key.strip()] = value.strip()
    return pairs
