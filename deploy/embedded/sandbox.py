"""Restricts the calling thread, and every thread it starts, to some files and no network, with Landlock.

Source: https://docs.kernel.org/userspace-api/landlock.html. The three system calls have the same numbers on every
architecture.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GIVE_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38  # of prctl; restrict_self asks for it
# Version 1 forbids every rename from one directory into another, which ClickHouse does for each new table.
_VERSION_MIN: Final = 2
# All rights of each version: 14 to 16 over files, and connections over TCP from 4 on.
_FILE_RIGHTS: Final = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_CONNECT: Final = 1 << 1
_EXECUTE: Final = 1 << 0
_READ: Final = 1 << 2 | 1 << 3  # files and lists of directories

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def confine(readable: Sequence[Path], writable: Sequence[Path]) -> bool:
    """Restrict this thread to these directories and no new TCP connections; open files and sockets stay open.

    It can't start programs either. Returns False, and changes nothing, on a kernel without Landlock (Linux 5.19).

    Raises:
        OSError: a directory does not exist, or the kernel refuses.
    """
    version = _LIBC.syscall(_CREATE_RULESET, None, 0, _GIVE_VERSION)
    if version < _VERSION_MIN:
        return False
    rights = _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]
    attributes = struct.pack("=QQ", rights, _CONNECT) if version >= 4 else struct.pack("=Q", rights)  # noqa: PLR2004
    rules = _called(_CREATE_RULESET, attributes, len(attributes), 0)
    for paths, allowed in ((readable, _READ), (writable, rights & ~_EXECUTE)):
        for path in paths:
            _allow(rules, path, allowed)
    if _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _called(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    return True


def _allow(rules: int, path: Path, rights: int) -> None:
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _called(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, directory), 0)
    finally:
        os.close(directory)


def _called(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
