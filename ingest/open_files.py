"""Matches connections to the limit of open files: each connection is one."""

import resource
from typing import Final

# Listeners, the spool and its log, brokers, the store, metrics, libraries: measured 29 with one broker.
_RESERVED: Final = 128


def raise_limit(connections: int) -> int:
    """Raise the process's soft limit to what this many connections need, as far as the hard limit allows; return it.

    Child processes inherit it.
    """
    needed = connections + _RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return reachable


def connections_within(limit: int, connections: int) -> tuple[int, str]:
    """Return how many connections fit a limit of open files, and a sentence when they are fewer than wanted.

    At the limit a process can open nothing: no spool file, no broker connection, not even a probe's connection.
    """
    room = min(connections, max(limit - _RESERVED, 1))
    if room == connections:
        return room, ""
    return room, (
        f"INGEST_CONNECTIONS_MAX ({connections}) needs {connections + _RESERVED} open files in each worker process, "
        f"but only {limit} are allowed (ulimit -Hn): it accepts {room} connections"
    )
