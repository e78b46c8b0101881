"""What an operator writes behind `python -m ingest`: read strictly, and refused in one sentence."""

import argparse
from pathlib import Path
from re import fullmatch
from typing import Final, NoReturn

_SECONDS_MAX: Final = 86_400
_SET_ASIDE: Final = ".corrupt"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """End the process."""
        self.exit(2, f"ingest: {message}\n")


def seconds(text: str) -> float:
    """Return a number of seconds."""
    if not fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) > _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_SECONDS_MAX}")
    return float(text)


def directory(text: str) -> Path:
    """Return the path of a directory, or of nothing."""
    path = Path(text)
    if not text or (path.exists() and not path.is_dir()) or not _may_be(path):
        raise argparse.ArgumentTypeError(f"{text or 'an empty path'} is not a directory")
    return path


def set_aside(text: str) -> Path:
    """Return the path of a file that was set aside."""
    path = Path(text)
    if not text.endswith(_SET_ASIDE) or not path.is_file():
        raise argparse.ArgumentTypeError(f"{text or 'an empty path'} is not a file that was set aside ({_SET_ASIDE})")
    return path


def _may_be(path: Path) -> bool:
    """Tell whether a directory could have this path: none of those above it is a file."""
    return all(parent.is_dir() for parent in path.absolute().parents if parent.exists())
