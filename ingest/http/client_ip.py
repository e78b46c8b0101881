"""The client's address behind proxies, and the part of it that may be kept.

Only X-Forwarded-For is read. A proxy extends the header it knows and passes others on as the client sent them, so a
collector that trusted `Forwarded` too would trust the client.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Privacy = Literal["full", "truncated", "none"]

# A household or a company shares these; RFC 6177 gives a site a /48 to a /56.
_KEPT_BITS: Final = {4: 24, 6: 48}
_CACHED: Final = 4096  # addresses; parsing one costs about 2 us


def read_networks(text: str) -> tuple[Network, ...]:
    """Read comma-separated CIDRs or single addresses; "" gives none.

    Raises:
        ValueError: an element is neither, or has bits set beyond its prefix.
    """
    return tuple(ip_network(element.strip()) for element in text.split(",")) if text.strip() else ()


def to_listen_on(host: str, port: int) -> str:
    """Return "host:port", with an IPv6 address in brackets as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_address(peer: str, forwarded_for: str, trusted: Iterable[Network]) -> str:
    """Return the client's address in canonical form, "" when even the peer's is unknown.

    Starts at the peer and reads X-Forwarded-For from right to left while the hop that added the element is trusted.
    The first hop that is not trusted is the client. An element that is no address ends the search one hop earlier.
    """
    if not forwarded_for:
        return _canonical(peer)
    here = read_address(peer)
    if here is None:
        return ""
    hops = forwarded_for.split(",")
    while hops and any(here in network for network in trusted):
        before = read_address(hops.pop().strip())
        if before is None:
            break
        here = before
    return str(here)


@lru_cache(_CACHED)
def read_address(text: str) -> Address | None:
    """Read an address with or without a port; IPv4-mapped IPv6 becomes IPv4. None when the text is no address."""
    try:
        address = ip_address(_without_port(text))
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


@lru_cache(_CACHED)
def _canonical(address: str) -> str:
    """Return an address in canonical form, "" when it is none."""
    return str(read_address(address) or "")


def _without_port(text: str) -> str:
    if text.startswith("["):
        inside, bracket, port = text[1:].partition("]")
        return inside if bracket and (not port or _is_port(port)) and ":" in inside else ""
    host, colon, port = text.partition(":")
    return host if colon and "." in host and _is_port(colon + port) else text


def _is_port(text: str) -> bool:
    return text[:1] == ":" and len(text) <= len(":65535") and text[1:].isascii() and text[1:].isdigit()


@lru_cache(_CACHED)
def private_form(address: str, privacy: Privacy) -> str:
    """Return the part of a canonical address that a row keeps: all of it, its /24 or /48, or nothing."""
    if privacy == "full" or not address:
        return address
    if privacy == "none":
        return ""
    version = 6 if ":" in address else 4
    return str(ip_network((address, _KEPT_BITS[version]), strict=False).network_address)
