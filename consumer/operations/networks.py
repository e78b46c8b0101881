"""Reads which country each network is of, from files as their publishers lay them out.

A network has one country: two lines that say two of the same one are refused, whichever way they write it. A network
inside another one may have another country.

A file is CSV, also compressed as .gz. With a header: `network` beside `country_code`, `country_iso_code` or `country`
(two letters); or GeoLite2's, whose blocks name places by `geoname_id` that a file of locations has with their
`country_iso_code`. Without one: network and country, or first address, last address and country, as DB-IP has them.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import (
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from pathlib import Path
from re import fullmatch
from sys import intern
from typing import Final, TextIO

from consumer.errors import Misconfigured

_CODES: Final = ("country_code", "country_iso_code", "country")
_PLACES: Final = ("geoname_id", "registered_country_geoname_id")
_UNKNOWN: Final = frozenset({"", "-", "ZZ"})
_RANGE_COLUMNS: Final = 3
_SIX: Final = 6
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses in the form of IPv6 (RFC 4291, section 2.5.5.2): for ClickHouse the same addresses."""

Network = IPv4Network | IPv6Network


class _Countries:
    """Which country each network is of, and the line that has said so. Publishers' files have a million networks."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[str, Path, int]] = {}  # an int takes a fifth of a network's memory

    def add(self, network: Network, country: str, path: Path, number: int) -> bool:
        """Note a network; tell whether it is new.

        Raises:
            Misconfigured: another line has said another country.
        """
        key = int(network.network_address) << 9 | network.prefixlen << 1 | (network.version == _SIX)
        before = self._said.get(key)
        if before is None:
            self._said[key] = (intern(country), path, number)
        elif before[0] != country:
            said = f"{before[1]}: line {before[2]} says {before[0]}"
            raise Misconfigured(f"{path}: line {number}: the network {network} is of {country}, but {said}")
        return before is None


def read_networks(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield each network with its country, of all files; networks without one are left out.

    Raises:
        Misconfigured: a file can't be read or has another layout, two lines contradict each other (the sentence names
            the lines), or there is no network.
    """
    places, known, is_empty = dict[str, str](), _Countries(), True
    for path in paths:
        for _, row in _rows(path):
            if "country_iso_code" not in row or "network" in row:
                break
            places[row["geoname_id"]] = row["country_iso_code"]
    for path in paths:
        for number, row in _rows(path):
            if "country_iso_code" in row and "network" not in row:
                break
            try:
                country = _country(row, places)
                if country not in _UNKNOWN:
                    is_empty = False
                    yield from (
                        (str(network), country)
                        for network in _networks(row)
                        if known.add(network, country, path, number)
                    )
            except (LookupError, TypeError, ValueError) as error:
                raise Misconfigured(f"{path}: line {number}: {error}") from error
    if is_empty:
        raise Misconfigured(f"there is no network with a country in {', '.join(map(str, paths))}")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with the number of its line, by column name; without a header by ours."""
    try:
        with _opened(path) as file:
            lines = csv.reader(file)
            first = next(lines, [])
            names = first if "network" in first or "geoname_id" in first else _names(path, first)
            if names is not first:
                yield 1, dict(zip(names, first, strict=True))
            for line in lines:
                yield lines.line_num, dict(zip(names, line, strict=True))
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise Misconfigured(f"{path}: line {lines.line_num}: has another number of columns than the first") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _names(path: Path, first: Sequence[str]) -> list[str]:
    """Return the names of the columns of a file without a header."""
    with suppress(IndexError, ValueError):
        ip_network(first[0], strict=False)
        _ = first[1]
        names = ["first", "last", "country"] if len(first) >= _RANGE_COLUMNS else ["network", "country"]
        return [*names, *(f"column {number}" for number in range(len(names), len(first)))]
    raise Misconfigured(
        f"{path}: line 1: expected a header with network and country_code, or network and country, or first address,"
        " last address and country"
    )


def _country(row: Mapping[str, str], places: Mapping[str, str]) -> str:
    """Return the code of a row's country; "" for none.

    Raises:
        ValueError: the row has no column for it, or no code of two letters.
        LookupError: no file of locations names its place.
    """
    name = next((name for name in _CODES if name in row), "")
    if name:
        code = row[name].strip().upper()
    elif "geoname_id" in row:
        place = next((row[name] for name in _PLACES if row.get(name)), "")
        if place and place not in places:
            raise LookupError(f"no file of locations has the geoname_id {place}")
        code = places.get(place, "")
    else:
        raise ValueError("there is no column with a country")
    if code not in _UNKNOWN and not fullmatch("[A-Z]{2}", code):
        raise ValueError(f"a country has two letters, not {code[:20]!r}")
    return code


def _networks(row: Mapping[str, str]) -> Iterator[Network]:
    """Yield the networks of a row, each in its one form; a range may need several.

    Raises:
        ValueError: it names none.
        TypeError: it begins and ends in different versions of IP.
    """
    if "network" in row:
        yield _unmapped(ip_network(row["network"].strip(), strict=False))
        return
    first, last = (ip_address(row[name].strip()) for name in ("first", "last"))
    yield from map(_unmapped, summarize_address_range(first, last))  # it checks that both are of one version


def _unmapped(network: Network) -> Network:
    """Return the IPv4 network that one of IPv6 stands for; others as they are."""
    if not isinstance(network, IPv6Network) or not network.subnet_of(_MAPPED):
        return network
    return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
