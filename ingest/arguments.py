"""Command-line arguments of `python -m ingest`: parsed strictly; an error is one sentence."""

import argparse
from pathlib import Path
from typing import Final, NoReturn

_SET_ASIDE: Final = ".corrupt"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"ingest: {message}\n")


def directory(text: str) -> Path:
    """Parse the path of a directory, which need not exist."""
    path = Path(text)
    if not text or (path.exists() and not path.is_dir()) or not _may_be(path):
        raise argparse.ArgumentTypeError(f"{text or 'an empty path'} is not a directory")
    return path


def set_aside(text: str) -> Path:
    """Parse the path of a spool file that was set aside."""
    path = Path(text)
    if not text.endswith(_SET_ASIDE) or not path.is_file():
        raise argparse.ArgumentTypeError(f"{text or 'an empty path'} is not a file that was set aside ({_SET_ASIDE})")
    return path


def _may_be(path: Path) -> bool:
    """Tell whether a directory could have this path: none of its parents is a file."""
    return all(parent.is_dir() for parent in path.absolute().parents if parent.exists())
