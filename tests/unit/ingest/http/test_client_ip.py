"""The client's address: whom to believe, and what of it to keep."""

import pytest

from ingest.http.client_ip import Privacy, client_address, private_form, read_networks, to_listen_on

TRUSTED = read_networks("10.0.0.0/8, 2001:db8:ffff::/48, 127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # the peer is nobody we know: its word counts for nothing
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),  # what the client itself put in front
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2,127.0.0.1", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "6.6.6.6, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("2001:db8:ffff::1", "203.0.113.7", "203.0.113.7"),
        ("", "203.0.113.7", ""),
        ("not an address", "203.0.113.7", ""),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_trusted(peer: str, forwarded_for: str, client: str) -> None:
    """The walk starts at the peer, goes from right to left, and ends at the first hop that no trusted one names."""
    assert client_address(peer, forwarded_for, TRUSTED) == client


def test_without_trusted_proxies_the_header_is_not_read() -> None:
    """A collector that stands in the open believes the connection alone."""
    assert client_address("10.0.0.1", "203.0.113.7", ()) == "10.0.0.1"


@pytest.mark.parametrize(
    "malformed",
    [
        "203.0.113.256",
        "203.0.113.07",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113.7:123456",
        "203.0.113.7/32",
        "[203.0.113.7]:80",
        "[2001:db8::1",
        "[2001:db8::1]80",
        "[]",
        "fe80::1%eth0",
        "for=203.0.113.7",
        '"203.0.113.7"',
        "localhost",
        "1" * 5000,
    ],
)
def test_a_malformed_hop_ends_the_walk(malformed: str) -> None:
    """Nothing left of what can't be read is believed."""
    assert client_address("10.0.0.1", f"6.6.6.6, {malformed}", TRUSTED) == "10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy", "10.0.0.0/8,", "10.0.0.0/8;127.0.0.1"])
def test_a_slip_in_the_list_of_proxies_is_an_error(text: str) -> None:
    """A network that is none, or has bits beyond its prefix, is not guessed at."""
    with pytest.raises(ValueError, match=r".+"):
        read_networks(text)


def test_an_empty_list_trusts_nobody() -> None:
    """The default believes no header."""
    assert read_networks(" ") == ()


@pytest.mark.parametrize(
    ("address", "privacy", "kept"),
    [
        ("203.0.113.7", "full", "203.0.113.7"),
        ("203.0.113.7", "truncated", "203.0.113.0"),
        ("203.0.113.7", "none", ""),
        ("2001:db8:1234:5678::9", "full", "2001:db8:1234:5678::9"),
        ("2001:db8:1234:5678::9", "truncated", "2001:db8:1234::"),
        ("2001:db8:1234:5678::9", "none", ""),
        ("", "truncated", ""),
    ],
)
def test_a_row_keeps_what_the_setting_says(address: str, privacy: Privacy, kept: str) -> None:
    """A /24 of IPv4, a /48 of IPv6, all or nothing."""
    assert private_form(address, privacy) == kept


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("0.0.0.0", "0.0.0.0:8080"),
        ("localhost", "localhost:8080"),
        ("::", "[::]:8080"),
        ("::1", "[::1]:8080"),
        ("2001:db8::1", "[2001:db8::1]:8080"),
    ],
)
def test_an_ipv6_address_to_listen_on_stands_in_brackets(host: str, said: str) -> None:
    """Otherwise its last group would be the port."""
    assert to_listen_on(host, 8080) == said
