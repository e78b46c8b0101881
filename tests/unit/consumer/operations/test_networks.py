"""Files of networks, as their publishers lay them out: each network with its country, or the line that is wrong."""

import gzip
from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.operations.networks import read_networks

BLOCKS = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id\n"
PLACES = (
    "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name\n"
    '6252001,en,NA,"North America",US,"United States"\n6255148,en,EU,Europe,,\n2921044,en,EU,Europe,DE,Germany\n'
)
LAYOUTS = {
    "ranges": ('"1.0.0.0","1.0.0.255","AU"\n1.0.4.0,1.0.7.255,au\n', [("1.0.0.0/24", "AU"), ("1.0.4.0/22", "AU")]),
    "ranges of several networks": ("10.0.0.1,10.0.0.2,DE\n", [("10.0.0.1/32", "DE"), ("10.0.0.2/32", "DE")]),
    "ranges of IPv6": ("2001:200::,2001:200:ffff:ffff:ffff:ffff:ffff:ffff,JP\n", [("2001:200::/32", "JP")]),
    "ranges with more columns": ("1.0.0.0,1.0.0.255,AU,Oceania\n", [("1.0.0.0/24", "AU")]),
    "networks": ("192.0.2.0/24,DE\n2001:db8::/32,FR\n", [("192.0.2.0/24", "DE"), ("2001:db8::/32", "FR")]),
    "a header": ("country,network,country_code\nGermany,192.0.2.0/24,DE\n", [("192.0.2.0/24", "DE")]),
    "a header with codes": ("network,country\n192.0.2.7/24,de\n", [("192.0.2.0/24", "DE")]),
    "a mark of order": ("\ufeffnetwork,country\n192.0.2.0/24,DE\n", [("192.0.2.0/24", "DE")]),
    "unknown countries": ("192.0.2.0/24,ZZ\n192.0.3.0/24,\n192.0.4.0/24,-\n1.0.0.0/24,AU\n", [("1.0.0.0/24", "AU")]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to write."""
    return tmp_path / "networks.csv"


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_gives_networks_with_their_country(path: Path, name: str) -> None:
    """The first line tells which it is; countries that are not known are left out."""
    text, wanted = LAYOUTS[name]
    path.write_text(text, "utf-8")
    assert list(read_networks([path])) == wanted

    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(text.encode()))
    assert list(read_networks([packed])) == wanted


def test_blocks_find_their_country_in_a_file_of_locations(tmp_path: Path) -> None:
    """In any order of files; a block without a place has that of its owner, and one of a continent has no country."""
    places, four, six = (tmp_path / name for name in ("places.csv", "four.csv", "six.csv"))
    places.write_text(PLACES)
    four.write_text(
        f"{BLOCKS}192.0.2.0/24,6252001,2921044,\n192.0.3.0/24,,2921044,\n192.0.4.0/24,,,\n192.0.5.0/24,6255148,,\n"
    )
    six.write_text(f"{BLOCKS}2001:db8::/32,2921044,,\n")
    wanted = [("192.0.2.0/24", "US"), ("192.0.3.0/24", "DE"), ("2001:db8::/32", "DE")]

    assert list(read_networks([places, four, six])) == wanted
    assert list(read_networks([four, six, places])) == wanted
    with pytest.raises(Misconfigured, match=r"four.csv: line 2: .*no file of locations has the geoname_id 6252001"):
        list(read_networks([four]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected a header"),
        ("nothing,of,this\n", "line 1: expected a header"),
        ("1.0.0.0\n", "line 1: expected a header"),
        ("192.0.2.0/24,DE\n192.0.2.0/33,DE\n", "line 2: "),
        ("192.0.2.0/24,DE\n192.0.3.0/24,Germany\n", "line 2: a country has two letters, not 'GERMANY'"),
        ("192.0.2.0/24,DE\n192.0.3.0/24\n", "line 2: has another number of columns"),
        ("1.0.0.0,1.0.0.255,AU\n1.0.1.0,2001:db8::,AU\n", "line 2: "),
        ("1.0.0.255,1.0.0.0,AU\n", "line 1: "),
        ("network,continent\n192.0.2.0/24,EU\n", "line 2: there is no column with a country"),
        ("192.0.2.0/24,DE'); DROP TABLE events; --\n", "line 1: a country has two letters"),
    ],
)
def test_a_line_that_is_wrong_is_named(path: Path, text: str, said: str) -> None:
    """With its number; nothing of another layout is guessed."""
    path.write_text(text)

    with pytest.raises(Misconfigured, match=said):
        list(read_networks([path]))


SAME = [
    ("192.0.2.0/24", "192.0.2.0/24"),
    ("192.0.2.0/24", "192.0.2.77/24"),
    ("192.0.2.0/24", "192.0.2.0/255.255.255.0"),
    ("192.0.2.7", "192.0.2.7/32"),
    ("192.0.2.0/24", "::ffff:192.0.2.0/120"),
    ("0.0.0.0/0", "::ffff:0:0/96"),
    ("2001:db8::/32", "2001:0DB8:0:0:0:0:0:1/32"),
    ("2001:db8::1", "2001:db8::1/128"),
]


@pytest.mark.parametrize(("first", "second"), SAME + [(second, first) for first, second in SAME])
def test_a_network_with_two_countries_is_refused_with_both_lines(tmp_path: Path, first: str, second: str) -> None:
    """However it is written, in one file or in two: the last line would win, and nobody would know."""
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    both = f"network,country\n10.0.0.0/8,AU\n{first},DE\n10.1.0.0/16,AU\n{second},FR\n"
    one.write_text(both)
    with pytest.raises(
        Misconfigured, match=r"one.csv: line 5: the network \S+ is of FR, but .*one.csv: line 3 says DE"
    ):
        list(read_networks([one]))

    one.write_text(f"network,country\n{first},DE\n")
    two.write_text(f"{second},FR\n")
    with pytest.raises(Misconfigured, match=r"two.csv: line 1: .*one.csv: line 2 says DE"):
        list(read_networks([one, two]))
    two.write_text(f"{second},DE\n")
    assert len(list(read_networks([one, two]))) == 1


def test_ranges_that_share_a_network_are_compared_with_it(path: Path) -> None:
    """A range is a list of networks, also one of IPv4 addresses in the form of IPv6."""
    path.write_text("1.0.0.0,1.0.2.255,AU\n1.0.2.0,1.0.2.255,CN\n")
    with pytest.raises(Misconfigured, match=r"line 2: the network 1.0.2.0/24 is of CN, but .*line 1 says AU"):
        list(read_networks([path]))

    path.write_text("::ffff:1.0.0.0,::ffff:1.0.0.255,AU\n1.0.0.0,1.0.0.255,CN\n")
    with pytest.raises(Misconfigured, match=r"line 2: the network 1.0.0.0/24 is of CN"):
        list(read_networks([path]))


def test_a_network_inside_another_may_have_another_country(path: Path) -> None:
    """The longest one counts; and 0.0.0.0/0 is not ::/0."""
    path.write_text("10.0.0.0/8,DE\n10.0.0.0/16,FR\n0.0.0.0/0,AU\n::/0,US\n::/96,JP\n0.0.0.0,CN\n::,KR\n")

    assert len(list(read_networks([path]))) == 7


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    """Absent, not compressed as its name says, cut, or no text."""
    names = ("absent.csv", "plain.csv.gz", "cut.csv.gz", "binary.csv")
    absent, plain, cut, binary = (tmp_path / name for name in names)
    plain.write_text("192.0.2.0/24,DE\n")
    cut.write_bytes(gzip.compress(b"192.0.2.0/24,DE\n" * 1000)[:-20])
    binary.write_bytes(b"\xff\xfe\x00")

    for path in (absent, plain, cut, binary):
        with pytest.raises(Misconfigured, match=path.name):
            list(read_networks([path]))


@pytest.mark.parametrize("text", ["network,country_code\n", "", "network,country_code\n10.0.0.0/8,-\n"])
def test_files_without_a_network_replace_nothing(path: Path, text: str) -> None:
    """All countries would be gone."""
    path.write_text(text, "utf-8")

    with pytest.raises(Misconfigured):
        list(read_networks([path]))
