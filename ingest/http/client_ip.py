"""Who the client is, on the network: the address behind proxies, and what of it may be kept.

Only X-Forwarded-For is read. A proxy extends the header it knows and passes others on as the client sent them, so a
collector that believed `Forwarded` too would believe the client.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Privacy = Literal["full", "truncated", "none"]

# What a household or a company shares; RFC 6177 hands a site a /48 to a /56.
_KEPT_BITS: Final = {4: 24, 6: 48}
_CACHED: Final = 4096  # addresses; parsing one costs about 2 us


def read_networks(text: str) -> tuple[Network, ...]:
    """Read comma-separated CIDRs or single addresses; "" is none.

    Raises:
        ValueError: an element is none, or has bits set beyond its prefix.
    """
    return tuple(ip_network(element.strip()) for element in text.split(",")) if text.strip() else ()


def to_listen_on(host: str, port: int) -> str:
    """Return host and port in one; an IPv6 address stands in brackets, as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_address(peer: str, forwarded_for: str, trusted: Iterable[Network]) -> str:
    """Return the client's address in canonical form, "" when even the peer's is unknown.

    The walk starts at the peer and goes through X-Forwarded-For from right to left while the hop that said so is
    trusted. An element that is no address ends it: the last hop believed is the client.
    """
    here = read_address(peer)
    if here is None:
        return ""
    hops = forwarded_for.split(",") if forwarded_for else []
    while hops and any(here in network for network in trusted):
        before = read_address(hops.pop().strip())
        if before is None:
            break
        here = before
    return str(here)


@lru_cache(_CACHED)
def read_address(text: str) -> Address | None:
    """Read an address with or without a port; IPv4-mapped IPv6 becomes IPv4. None when it is none."""
    try:
        address = ip_address(_without_port(text))
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


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
    """Return what a row keeps of a canonical address: all, its /24 or /48, or nothing."""
    if privacy == "full" or not address:
        return address
    if privacy == "none":
        return ""
    version = 6 if ":" in address else 4
    return str(ip_network((address, _KEPT_BITS[version]), strict=False).network_address)
