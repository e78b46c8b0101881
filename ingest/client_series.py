"""Accepted events by client and type: each worker process writes its share into a file, and a scrape adds them up.

prometheus-client's files only grow. Here a client's name can be retired, so that another client gets one: from then
on no scrape shows the client, whichever process answers it, until a process sees it again. So to Prometheus its series
ends, with the counts of all processes at once, and no counter shows less than before. The processes drop what they have
of it within a minute (ingest/events/client_counters.py); if it comes again, its series starts at 0. One case is left: a
client that another process sees again in the milliseconds in which it is retired keeps only that process's counts.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

OTHER = "other"
"""Stands for all clients that have no name."""


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

    def __init__(self, directory: str = "", number: int = 0) -> None:
        self._directory = Path(directory) if directory else None
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

    def shares(self) -> Iterator[ClientShare]:
        """Yield the shares of all processes, this one's too."""
        yield self._own
        for path in sorted(self._directory.glob("clients_*.json")) if self._directory is not None else ():
            if path.name != self._path and (share := _read(path)) is not None:
                yield share


def _read(path: Path) -> ClientShare | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ClientShare)
    return None
