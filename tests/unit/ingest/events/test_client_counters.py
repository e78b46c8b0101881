"""Events by client and type: counted once, under names that no sender can make many of."""

import errno
import fcntl
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.client_series import OTHER, ClientSeries, ClientShare, added_up
from ingest.events.client_counters import CLIENTS_MAX, IDLE_S, ClientCounters
from ingest.metric_table import LABEL_SETS_MAX
from schemas.event import read_catalogue


def test_events_are_counted_under_client_and_type() -> None:
    """Each request adds its events; a flush writes them once."""
    tally = ClientSeries()
    counters = ClientCounters(tally)

    counters.count([("web", "VIEW"), ("web", "PING"), ("web", "VIEW")])
    counters.flush()
    counters.count([("web", "VIEW"), ("app", "VIEW")])
    for _ in range(3):
        counters.flush()

    assert added_up(tally.shares()) == {
        ("web", "VIEW"): 3,
        ("web", "PING"): 1,
        ("app", "VIEW"): 1,
    }


def waiting(counters: ClientCounters) -> int:
    """Return how many entries wait for a flush."""
    return len(counters._pending) + len(counters._sums)  # noqa: SLF001  (its memory has no other sign)


def test_clients_beyond_the_bound_are_counted_together() -> None:
    """However many names come in, as many have one as may; those keep it, and what waits has a bound."""
    tally = ClientSeries()
    counters = ClientCounters(tally, clients_max=4)

    for number in range(100_000):
        counters.count([(f"client-{number}", "VIEW")])
        assert waiting(counters) <= 20_001 + 20_000
    counters.count([("client-1", "CLICK"), ("client-2", "CLICK")])
    counters.flush()

    assert waiting(counters) == 0
    assert added_up(tally.shares()) == {
        ("client-0", "VIEW"): 1,
        ("client-1", "VIEW"): 1,
        (OTHER, "VIEW"): 99_998,
        ("client-1", "CLICK"): 1,
        (OTHER, "CLICK"): 1,
    }


class Stuck(ClientSeries):
    """A share whose directory another process has locked, or whose disk hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.is_free = threading.Event(), threading.Event()

    @contextmanager
    def locked(self, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Wait."""
        del kind
        self.is_asked.set()
        assert self.is_free.wait(60)
        yield


@pytest.mark.parametrize("is_reporting", [False, True])
def test_a_request_never_waits_for_the_directory(is_reporting: bool) -> None:  # noqa: FBT001  (a case)
    """Not even while the reporting thread does: requests come on the event loop. Memory is bound."""
    series = Stuck()
    counters = ClientCounters(series)
    reporting = threading.Thread(target=counters.flush)
    if is_reporting:
        reporting.start()
        assert series.is_asked.wait(60)

    def requests() -> None:
        for number in range(2_000):
            counters.count([(f"client-{number % 7}", "VIEW")] * 100)

    thread = threading.Thread(target=requests, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert series.is_asked.is_set() is is_reporting
    assert waiting(counters) <= 20_100 + 7

    series.is_free.set()
    if is_reporting:
        reporting.join()
    counters.flush()
    assert sum(added_up(series.shares()).values()) == 200_000


def test_events_that_come_while_others_are_added_up_are_counted_once() -> None:
    """Several threads of requests, and the one that reports."""
    series = ClientSeries()
    counters = ClientCounters(series)

    def requests() -> None:
        for number in range(1_000):
            counters.count([(f"client-{number % 400}", "VIEW")] * 100)

    threads = [threading.Thread(target=requests) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counters.flush()
    counters.flush()

    assert sum(added_up(series.shares()).values()) == 300_000


def test_what_can_t_be_written_now_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when clients hold all connections, and no directory can be opened for the look at the other shares."""

    def refuse(*_: object) -> Iterator[Path]:
        raise OSError(errno.EMFILE, "Too many open files")

    series = ClientSeries(str(tmp_path), 1)
    counters = ClientCounters(series)
    counters.count([("web", "VIEW")] * 7)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                counters.flush()
    counters.count([("web", "VIEW")])
    counters.flush()

    assert added_up(series.shares()) == {("web", "VIEW"): 8}


@pytest.mark.parametrize("junk", [1, 400, 2_000])
def test_a_real_client_gets_a_name_beside_made_up_ones(junk: int) -> None:
    """New ids in each flush use up half of the names at most, and a client that keeps coming is told apart."""
    tally = ClientSeries()
    counters = ClientCounters(tally)

    for flush in range(60):
        counters.count([(f"junk-{flush}-{number}", "VIEW") for number in range(junk // 2)])
        counters.count([("web", "VIEW"), ("web", "CLICK")] if flush > 50 else [])
        counters.count([(f"junk-{flush}-{number}", "VIEW") for number in range(junk // 2, junk)])
        counters.flush()
        assert len(counters._flushes) <= 1000  # noqa: SLF001  (its memory has no other sign)

    names = {client for client, _ in added_up(tally.shares())} - {OTHER}
    assert added_up(tally.shares())[("web", "VIEW")] == 7
    assert len(names - {"web"}) == CLIENTS_MAX // 2


def test_a_client_that_comes_now_and_then_gets_a_name_too() -> None:
    """Its flushes need not follow each other; other types in one flush are no other flush."""
    tally = ClientSeries()
    counters = ClientCounters(tally, clients_max=2)
    counters.count([("first", "VIEW")])
    for _ in range(3):
        counters.count([("rare", "VIEW"), ("rare", "CLICK"), ("rare", "PING")])
        for _ in range(3):
            counters.flush()

    assert added_up(tally.shares())[("rare", "VIEW")] == 1


@pytest.mark.parametrize("client", ["", "a" * 65, "a b", "a\n", 'a"} 1\nforged{x="', "ä", "\x00"])
def test_what_does_not_look_like_a_name_gets_none(client: str) -> None:
    """Nor does it use up a name."""
    tally = ClientSeries()
    counters = ClientCounters(tally, clients_max=1)

    counters.count([(client, "VIEW"), ("web", "VIEW")])
    counters.flush()

    assert added_up(tally.shares()) == {(OTHER, "VIEW"): 1, ("web", "VIEW"): 1}


def test_all_names_with_all_types_fit_the_metric() -> None:
    """No type of the catalogue is merged with others because clients have many names."""
    assert (CLIENTS_MAX + 1) * len(read_catalogue().types) <= LABEL_SETS_MAX


Scrape = dict[tuple[str, str], int]


class Processes:
    """Worker processes that share a directory and a clock; each has two names for clients."""

    def __init__(self, directory: Path, count: int) -> None:
        self.now_s = 1_767_323_045.0
        self._directory = directory
        self._processes = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> ClientCounters:
        return ClientCounters(ClientSeries(str(self._directory), number, 60.0), 2, lambda: self.now_s)

    def replace(self, number: int) -> None:
        """Let one die, and another one continue its share."""
        self._processes[number] = self._start(number)

    def come(self, number: int, *clients: str, flushes: int = 1) -> None:
        """Let events of clients come to a process, a second apart."""
        for _ in range(flushes):
            self.now_s += 1
            self._processes[number].count([(client, "VIEW") for client in clients])
            self._processes[number].flush()

    def scrape(self) -> Scrape:
        """Return what Prometheus sees, whichever process answers."""
        return added_up(ClientSeries(str(self._directory), 99, 60.0).read())


@pytest.fixture
def two(tmp_path: Path) -> Processes:
    """Two processes, which have given their names to two clients."""
    made = Processes(tmp_path, 2)
    for number in (0, 1):
        made.come(number, "old", "older", flushes=3)
    return made


def test_a_client_that_did_not_come_for_an_hour_makes_room(two: Processes) -> None:
    """Its series ends with the counts of both processes, and the new one's begins; nothing is counted twice."""
    two.come(0, "new", flushes=5)
    assert two.scrape() == {("old", "VIEW"): 6, ("older", "VIEW"): 2, (OTHER, "VIEW"): 4 + 5}

    two.now_s += IDLE_S
    two.come(1, "old")
    two.come(0, "new", flushes=70)

    seen = two.scrape()
    assert seen["old", "VIEW"] == 7
    assert ("older", "VIEW") not in seen
    assert seen["new", "VIEW"] + seen[OTHER, "VIEW"] == 4 + 5 + 70
    assert seen["new", "VIEW"] > 1


def test_a_retired_client_that_comes_again_starts_at_0(two: Processes) -> None:
    """Also in a process that has not yet dropped what it had of it, and in one that continues a dead one's share."""
    two.now_s += IDLE_S
    two.come(0, "new", "newer", flushes=64)
    assert set(two.scrape()) == {("new", "VIEW"), ("newer", "VIEW"), (OTHER, "VIEW")}

    two.replace(1)
    two.come(1, "older", flushes=5)

    assert two.scrape()["older", "VIEW"] <= 5


def test_a_client_that_comes_again_while_it_is_retired_starts_at_0(tmp_path: Path) -> None:
    """In another process, which looks before the retirement is written: it would keep that process's counts alone."""
    two = Processes(tmp_path, 2)
    for number in (0, 1):
        two.come(number, "old", "older", flushes=3)
    two.now_s += IDLE_S
    come = threading.Thread(target=two.come, args=(1, "old"))

    class Interrupted(ClientSeries):
        """A process that is interrupted between looking and writing."""

        looks = 0

        def shares(self) -> Iterator[ClientShare]:
            """Yield the shares, and let the other process come at the second look, which retires names."""
            yield from super().shares()
            self.looks += 1
            if self.looks == 2:
                come.start()
                come.join(0.05)

    retiring = ClientCounters(Interrupted(str(tmp_path), 0, 60.0), 2, lambda: two.now_s)
    for _ in range(2):
        two.now_s += 61
        retiring.count([("new", "VIEW"), ("newer", "VIEW")])
        retiring.flush()
    come.join()

    assert two.scrape().get(("old", "VIEW"), 0) <= 1


def test_without_another_client_an_idle_one_keeps_its_name(two: Processes) -> None:
    """A client that comes once a day is told apart where names are left."""
    two.now_s += 24 * IDLE_S
    two.come(0, "old", flushes=100)

    assert two.scrape()["older", "VIEW"] == 2


@pytest.mark.parametrize("seed", range(8))
def test_prometheus_sees_each_event_once_and_no_counter_goes_back(tmp_path: Path, seed: int) -> None:
    """Whatever comes where and when: what grew between two scrapes is what came, and what is shown only grows."""
    chance = random.Random(seed)
    processes = Processes(tmp_path, 3)
    before: Scrape = {}
    ended = Counter[str]()
    for _ in range(300):
        clients = [f"c{chance.randrange(6)}" for _ in range(chance.randrange(3))]
        number = chance.randrange(3)
        if chance.random() < 0.02:
            processes.replace(number)
        processes.now_s += chance.choice([0, 0, 0, 10, 61, IDLE_S / 2, IDLE_S + 1])
        processes.come(number, *clients)
        now = processes.scrape()
        ended.update(client for client, _ in before.keys() - now.keys())
        assert all(now[series] >= events for series, events in before.items() if series in now)
        assert sum(events - before.get(series, 0) for series, events in now.items()) == len(clients)
        before = now

    assert ended
