"""How many files a worker process may have open: each connection is one."""

import resource
from typing import Final

# Listeners, the spool and its log, brokers, the store, metrics, libraries: measured 29 with one broker.
_RESERVED: Final = 128


def raise_limit(connections: int) -> int:
    """Raise the process's soft limit to what so many connections need, as far as the hard one allows; return it.

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
    """Return how many connections a limit of open files leaves room for, and a sentence when they are fewer.

    Beyond the limit nothing can be opened any more: no spool, no way to a broker, not even a probe is accepted.
    """
    room = min(connections, max(limit - _RESERVED, 1))
    if room == connections:
        return room, ""
    return room, (
        f"INGEST_CONNECTIONS_MAX ({connections}) needs {connections + _RESERVED} open files in each worker process, "
        f"and only {limit} are allowed (ulimit -Hn): {room} connections are taken"
    )
