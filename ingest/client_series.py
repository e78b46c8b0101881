"""Accepted events by client and type: each worker process writes its share into a file, and a scrape adds them up.

prometheus-client's files only grow. Here a client's name can be retired, so that another client gets one: from then
on no scrape shows the client, whichever process answers it, until a process sees it again. So to Prometheus its series
ends, with the counts of all processes at once, and no counter shows less than before. The processes drop what they have
of it within a minute (ingest/events/client_counters.py); if it comes again, its series starts at 0.

Who writes a share locks the directory, from the moment at which it looks at the others': else a client that one process
retires while another one sees it again would keep only that one's counts. Who reads them all locks it too.
"""

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

OTHER = "other"
"""Stands for all clients that have no name."""
_PATIENCE_S: Final = 0.1
"""A process that stands still with the lock holds up no other one for longer."""
_PAUSE_S: Final = 0.001


class ClientShare(msgspec.Struct, frozen=True):
    """What one process has counted.

    Attributes:
        counts: events by client and type.
        seen: when each client with a name came last (Unix s).
        retired: when this process retired a name; kept until all shares have dropped it.
    """

    counts: Mapping[str, Mapping[str, int]] = {}
    seen: Mapping[str, float] = {}
    retired: Mapping[str, float] = {}

    def is_retired(self, client: str, retired: Mapping[str, float]) -> bool:
        """Tell whether any process has retired a client since this one saw it last: its counts are void."""
        return client in self.seen and retired.get(client, 0.0) >= self.seen[client]


def latest(moments: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the latest moment of each client."""
    found = dict[str, float]()
    for own in moments:
        found.update({client: max(at_s, found.get(client, 0.0)) for client, at_s in own.items()})
    return found


def added_up(shares: Iterable[ClientShare]) -> dict[tuple[str, str], int]:
    """Return the events of all processes by client and type, without void counts."""
    shares = list(shares)
    retired, sums = latest(share.retired for share in shares), Counter[tuple[str, str]]()
    for share in shares:
        for client, counts in share.counts.items():
            if not share.is_retired(client, retired):
                sums.update({(client, event_type): events for event_type, events in counts.items()})
    return dict(sums)


class ClientSeries:
    """The shares of all processes, as files of a directory; "" keeps the only one in memory.

    The process that replaces a dead one has its `number`, and continues its share.
    """

    def __init__(self, directory: str = "", number: int = 0, patience_s: float = _PATIENCE_S) -> None:
        self._directory = Path(directory) if directory else None
        self._patience_s = patience_s
        self._path = f"clients_{number}.json"
        self._own = ClientShare()
        if self._directory is not None:
            self._own = _read(self._directory / self._path) or self._own

    @property
    def own(self) -> ClientShare:
        """This process's share, also as its predecessor left it."""
        return self._own

    def write(self, share: ClientShare) -> None:
        """Replace this process's share. One that can't be written is written with the next counts."""
        self._own = share
        if self._directory is not None:
            draft = self._directory / f"{self._path}.draft"
            with suppress(OSError):
                draft.write_bytes(msgspec.json.encode(share))
                os.replace(draft, self._directory / self._path)  # noqa: PTH105  (a reader sees a whole one)

    @contextmanager
    def locked(self, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Let no other process write its share meanwhile, or go on without that after a moment."""
        with ExitStack() as stack:
            if self._directory is not None:
                with suppress(OSError):
                    directory = os.open(self._directory, os.O_RDONLY)
                    stack.callback(os.close, directory)
                    until_s = time.monotonic() + self._patience_s
                    while not _lock(directory, kind) and time.monotonic() < until_s:
                        time.sleep(_PAUSE_S)
            yield

    def read(self) -> list[ClientShare]:
        """Return the shares of all processes, as they are at one moment."""
        with self.locked(fcntl.LOCK_SH):
            return list(self.shares())

    def shares(self) -> Iterator[ClientShare]:
        """Yield the shares of all processes, this one's too; `locked` keeps them as they are."""
        yield self._own
        for path in sorted(self._directory.glob("clients_*.json")) if self._directory is not None else ():
            if path.name != self._path and (share := _read(path)) is not None:
                yield share


def _lock(descriptor: int, kind: int) -> bool:
    with suppress(OSError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False


def _read(path: Path) -> ClientShare | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ClientShare)
    return None
