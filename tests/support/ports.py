"""Ports for servers that stop and come back under the eyes of their clients."""

import os
import secrets
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 12_000  # the well-known ones of databases and brokers lie below
_TRIES: Final = 200

_given: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now and that no outgoing connection will be given.

    Binding port 0 gives one from the range of outgoing connections: while its server is down, a client that keeps
    trying to reconnect can be given that very port, connect to itself and keep the server from coming back.
    No port is returned twice, nor by two of the processes that share a test run: each has a separate range, because
    servers bind theirs later, and again. The choice does not follow the seed of the test run, so that two runs differ.

    Raises:
        OSError: none found free.
    """
    ours = _ours(_first_ephemeral_port())
    for _ in range(_TRIES):
        port = secrets.choice(ours)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port found between {ours.start} and {ours.stop}")


def _ours(ceiling: int) -> range:
    """Return the range of this process among those of pytest-xdist."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % processes
    share = (ceiling - _LOWEST) // processes
    return range(_LOWEST + number * share, _LOWEST + (number + 1) * share)


def _first_ephemeral_port() -> int:
    lowest = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    return lowest if lowest > _LOWEST + 1000 else 32_768


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
