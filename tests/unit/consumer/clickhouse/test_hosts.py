"""Which of several servers is used."""

from consumer.clickhouse.hosts import HostList, OneHost
from schemas.transport.access import Url

URLS = [Url("http", name, 8123, "") for name in ("a", "b", "c")]


def test_the_next_host_is_used_once_the_one_in_use_is_left_and_the_first_follows_the_last() -> None:
    """However many threads leave it: each says which one it means."""
    hosts = HostList(URLS)
    for expected in "bcab":
        number = hosts.number
        hosts.leave(number)
        hosts.leave(number)
        assert hosts.url(hosts.number).host == expected


def test_a_single_host_is_never_left() -> None:
    """Its client stays open."""
    hosts = HostList(URLS[:1])
    hosts.leave(hosts.number)

    assert hosts.number == 0


def test_one_host_stays_while_the_list_goes_on() -> None:
    """Statements that need each other go to the same one; what goes wrong there lets the others leave it."""
    hosts = HostList(URLS)
    one = OneHost(hosts, hosts.number)
    one.leave(one.number)

    assert (one.url(one.number).host, hosts.url(hosts.number).host) == ("a", "b")
