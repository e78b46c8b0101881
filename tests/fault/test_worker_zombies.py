"""Workers that stand still past their session, and come back when others have taken over."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import IS_SOAK, SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster

STEPS: Final = ("intent_sent", "intent_committed", "inserting", "insert_under_way", "inserted", "letters_sent")
"""Where each of them stands still: from before its intent is answered to before its dead letters are counted."""
DANGEROUS: Final = ("inserting", "inserted")
"""It sends its insert when its range has long been inserted; it commits what others have gone beyond."""
_SESSION_S: Final = 180  # a frozen worker whose session is over takes its name back
CLASSIC: Final[dict[str, object]] = {"session_timeout_ms": _SESSION_S * 1000}
KIP848: Final[dict[str, object]] = {"group_protocol": "consumer"}
COOPERATIVE: Final[dict[str, object]] = {"assignor": "cooperative-sticky"}
_PARTITIONS: Final = 2 * len(STEPS if IS_SOAK else DANGEROUS)
"""Two for each zombie."""
_FATAL: Final = 1
_TAKEN: Final = {"classic": "Static consumer fenced", "consumer": "The instance ID is still used"}


@pytest.fixture
def fleet(broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of a topic with a partition for each and more, in small batches; KIP-848's session is the broker's."""
    topic = new_topic_on(broker, _PARTITIONS)
    with Fleet(tmp_path, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        fleet.settings |= {"batch_rows_max": 20, "heartbeat_interval_ms": 200, "insert_timeout_s": 10}
        yield fleet


@pytest.fixture
def feed(broker: KafkaCluster, fleet: Fleet) -> Feed:
    """Events with some poison among them."""
    return Feed(broker.bootstrap_servers, fleet.topic, poison_every=25)


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        pytest.param({}, DANGEROUS, id="range"),
        pytest.param({}, STEPS, id="range, each step", marks=SOAK_ONLY),
        pytest.param(COOPERATIVE, DANGEROUS, id="cooperative", marks=SOAK_ONLY),
        pytest.param(KIP848, DANGEROUS, id="kip848", marks=SOAK_ONLY),
    ],
)
def test_zombies_at_each_step(
    protocol: dict[str, object], steps: tuple[str, ...], fleet: Fleet, feed: Feed, oracle: Oracle
) -> None:
    """They stand still, each at its step; one takes over; all come back, are refused, join again and work on."""
    fleet.settings |= protocol
    zombies = {step: fleet.start(doom=f"{step}:2:SIGSTOP") for step in steps}
    until(lambda: all(zombie.partitions() for zombie in zombies.values()), "each has partitions")
    feed.send(600)
    for zombie in zombies.values():
        zombie.await_frozen()
    left = len(fleet.left())
    heir = fleet.start()
    before = fleet.settle(feed)
    before.check()
    replayed = heir.figure("headrace_consumer_intents_total", outcome="replayed")
    for zombie in zombies.values():
        zombie.resume()
    until(lambda: len(fleet.group()) > len(zombies), "each is in again, beside the heir")
    until(lambda: all(zombie.partitions() for zombie in zombies.values()), "each has partitions again")
    after = fleet.look(feed)
    worked = {zombie: zombie.inserted() for zombie in zombies.values()}
    assert heir.stop() == 0
    with feed.running(100):
        until(lambda: all(zombie.inserted() > rows for zombie, rows in worked.items()), "each works on")
    fleet.settle(feed)
    codes = [zombie.stop() for zombie in zombies.values()]
    found = fleet.look(feed)
    oracle.say(intents_left=left, replayed=replayed, rows=found.rows, letters=found.letters)
    assert left >= len(steps) - 1  # one of them had not been answered
    assert replayed >= left
    assert after == before
    found.check()
    assert codes == [0] * len(steps)
    for zombie in zombies.values():
        zombie.books()


def replaced(fleet: Fleet) -> Member:
    """Start a worker anew each time it ends, as a supervisor would, until one has partitions; return that one."""
    crew = [fleet.start()]

    def is_in() -> bool:
        if not crew[-1].is_alive:
            crew.append(fleet.start())
        return crew[-1].figure("headrace_consumer_partitions", state="owned") > 0

    until(is_in, "the group takes it")
    return crew[-1]


@pytest.mark.parametrize(
    "protocol", [pytest.param(CLASSIC, id="classic"), pytest.param(KIP848, id="kip848", marks=SOAK_ONLY)]
)
def test_a_static_member_is_started_again_while_it_stands_still(
    protocol: dict[str, object], fleet: Fleet, feed: Feed, oracle: Oracle
) -> None:
    """The new process takes over, at once, or with KIP-848 once the session is over; the old one stops when it goes on.

    A classic group gives the name to who came last. KIP-848's refuses the name while it is taken: the worker exits.
    """
    fleet.settings |= {"group_instance_id": "one", **protocol}
    feed.send(400)
    old = fleet.start(doom="inserting:6:SIGSTOP")
    old.await_frozen()
    left = len(fleet.intents())
    began_s = time.monotonic()
    new = replaced(fleet)
    taken_s = time.monotonic() - began_s
    before = fleet.settle(feed)
    replayed = new.figure("headrace_consumer_intents_total", outcome="replayed")
    old.resume()
    code = old.await_exit()
    after = fleet.look(feed)
    feed.send(150)
    fleet.settle(feed)
    assert new.stop() == 0
    found = fleet.look(feed)
    oracle.say(intents_left=left, replayed=replayed, rows=found.rows, taken_s=taken_s, starts=len(fleet.members) - 1)
    before.check()
    found.check()
    assert after == before
    assert code == _FATAL
    assert _TAKEN[str(fleet.settings.get("group_protocol", "classic"))] in old.said()
    assert left
    assert replayed > 0  # the last commits of who is frozen may have been under way: so many or so
    assert taken_s < _SESSION_S
