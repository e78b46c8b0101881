"""Kafka's classes as a node has loaded them, in a file that the JVM maps: a node starts in half the time.

The file is made once, by a node that serves a record and is stopped in order, and kept beside the jars. A JVM that
can't use it, another version of Java for example, starts without it.
"""

import fcntl
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

QUIET: Final = ["-Xlog:disable", "-Xlog:all=warning:stderr", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def archive_of(jars: Path) -> Path:
    """Return where the file is or would be: beside the directory of the jars."""
    return jars.with_name(f"{jars.name}.jsa")


def archive(jars: Path, record: Callable[[list[str]], None]) -> Path:
    """Return the file, made first if there is none; who comes meanwhile waits.

    Args:
        jars: the directory with Kafka's jars.
        record: runs a node with these options of the JVM, uses it, and stops it in order.
    """
    kept = archive_of(jars)
    if not kept.exists():
        with jars.with_name(f"{jars.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                draft = kept.with_name(f".{kept.name}.{secrets.token_hex(4)}")
                record([f"-XX:ArchiveClassesAtExit={draft}", *QUIET])
                if draft.exists():
                    draft.replace(kept)
    return kept


def mapping(kept: Path) -> list[str]:
    """Return the options with which a JVM uses the file."""
    return [f"-XX:SharedArchiveFile={kept}", *QUIET] if kept.exists() else []
