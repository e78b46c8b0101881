"""The client registry: who may send, and what an edit of its file does."""

import logging
from pathlib import Path

import pytest

from ingest.access.clients import Registry, make_key, read_keys
from ingest.access.rate_limit import Allowance
from ingest.errors import ErrorCode, Rejected

KEY, HASH = make_key()
OLD_KEY, OLD_HASH = make_key()
LOST_KEY, LOST_HASH = make_key()
PAGE = "https://www.example.com"
ENTRIES = f"""
[clients.web]
name = "Web site"
keys = ["{HASH}", "{OLD_HASH}"]
disabled_keys = ["{LOST_HASH}"]
origins = ["{PAGE}"]
rate_limit = 7
"""


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a registry."""
    path = tmp_path / "clients.toml"
    path.write_text(ENTRIES)
    return path


def replace(path: Path, text: str) -> None:
    """Replace a file as one should: by renaming."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)


def refusal(registry: Registry, key: str, origin: str = "") -> ErrorCode:
    """Return why a key is refused."""
    with pytest.raises(Rejected) as caught:
        registry.find(key, origin)
    return caught.value.code


@pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["new", "old"])
def test_each_key_of_a_client_is_good(path: Path, key: str) -> None:
    """While a key is replaced, both work."""
    client = Registry(str(path)).find(key, "")

    assert (client.client_id, client.name, client.rate_limit) == ("web", "Web site", 7)


@pytest.mark.parametrize(
    ("more", "share"),
    [
        ("", 1),
        ('origins = ["https://www.example.com"]', 0.1),
        ('origins = ["https://www.example.com"]\naddress_share = 1', 1),
        ("address_share = 0.25", 0.25),
    ],
)
def test_an_address_has_a_share_where_pages_use_the_key(path: Path, more: str, share: float) -> None:
    """A tenth unless the entry says otherwise; the key of a server is used from one address."""
    path.write_text(f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\n{more}\n')

    assert Registry(str(path)).find(KEY, "").address_share == share


def test_a_limit_that_an_entry_does_not_name_is_the_default(path: Path) -> None:
    """Each by itself."""
    path.write_text(f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\nevent_limit = 5\n')

    assert Registry(str(path)).find(KEY, "").allowance(Allowance(1, 2, 3)) == Allowance(1, 5, 3)


def test_no_key_and_an_unknown_one_are_told_apart(path: Path) -> None:
    """Both are 401, and RFC 9110 wants a challenge with it."""
    registry = Registry(str(path))

    for key, slug in (("", ErrorCode.NO_KEY), (KEY + "x", ErrorCode.UNKNOWN_KEY), ("\udcff", ErrorCode.UNKNOWN_KEY)):
        with pytest.raises(Rejected) as caught:
            registry.find(key, "")
        assert (caught.value.code, caught.value.status) == (slug, 401)
        assert caught.value.headers == (("WWW-Authenticate", 'Bearer realm="headrace"'),)


def test_a_disabled_key_is_not_an_unknown_one(path: Path) -> None:
    """403 tells its holder that the key was theirs once."""
    assert refusal(Registry(str(path)), LOST_KEY) is ErrorCode.KEY_DISABLED


def test_a_disabled_client_has_no_good_key(path: Path) -> None:
    """One word turns a client off."""
    replace(path, ENTRIES + "enabled = false\n")

    assert refusal(Registry(str(path)), KEY) is ErrorCode.CLIENT_DISABLED


@pytest.mark.parametrize("origin", ["", PAGE, PAGE.upper()])
def test_an_allowed_page_and_a_server_may_send(path: Path, origin: str) -> None:
    """A listed origin in any case; and other clients name none."""
    assert Registry(str(path)).find(KEY, origin).client_id == "web"


@pytest.mark.parametrize("origin", ["https://evil.example", PAGE + ":444", "http://www.example.com", "null"])
def test_another_page_may_not(path: Path, origin: str) -> None:
    """Scheme, host and port all count."""
    assert refusal(Registry(str(path)), KEY, origin) is ErrorCode.ORIGIN_NOT_ALLOWED


@pytest.mark.parametrize(
    "origin", ["null", "capacitor://localhost", "ionic://localhost", "chrome-extension://abcdefgh"]
)
def test_an_app_may_send_where_it_is_listed(path: Path, origin: str) -> None:
    """Apps and extensions stand in the list as browsers write them."""
    assert refusal(Registry(str(path)), KEY, origin) is ErrorCode.ORIGIN_NOT_ALLOWED

    replace(path, ENTRIES.replace(PAGE, origin))
    assert Registry(str(path)).find(KEY, origin).client_id == "web"


def test_a_client_without_origins_allows_every_page(path: Path) -> None:
    """An empty list is no lock."""
    replace(path, ENTRIES.replace(f'origins = ["{PAGE}"]', ""))

    assert Registry(str(path)).find(KEY, "https://anywhere.example").client_id == "web"


def test_an_edit_is_seen_within_a_second(path: Path) -> None:
    """The file is looked at by the first request of a second, and only by that."""
    clock = Clock()
    registry = Registry(str(path), clock)
    replace(path, ENTRIES.replace("[clients.web]", "[clients.app]"))

    clock.now_s += 0.9
    assert registry.find(KEY, "").client_id == "web"
    clock.now_s += 0.2
    assert registry.find(KEY, "").client_id == "app"


@pytest.mark.parametrize("broken", ["[clients.web", "", "[clients.web]\nname = 1\nkeys = []\n", None])
def test_a_broken_edit_leaves_the_last_good_state_in_force(
    path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    """Rubbish, an empty file and no file at all lock nobody out; the log says so, once per edit."""
    clock = Clock()
    registry = Registry(str(path), clock)
    if broken is None:
        path.unlink()
    else:
        replace(path, broken)

    with caplog.at_level(logging.INFO, "ingest.access.clients"):
        for _ in range(3):
            clock.now_s += 2
            assert registry.find(KEY, "").client_id == "web"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stays in force" in caplog.text

    replace(path, ENTRIES.replace("[clients.web]", "[clients.app]"))
    clock.now_s += 2
    assert registry.find(KEY, "").client_id == "app"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[clients.web", "Expected"),
        ("clients = 1", "object"),
        ('[clients.web]\nname = "x"\nkeys = ["secret"]\n', "regex"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\nrate_limit = 0\n', ">= 1"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\nevent_limit = 0\n', ">= 1"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\nbyte_limit = 0\n', ">= 1"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\naddress_share = 0.0\n', "> 0"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\naddress_share = 1.5\n', "<= 1"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\norigins = ["www.example.com/"]\n', "is no origin"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}"]\nenable = true\n', "unknown field `enable`"),
        (f'[clients.web]\nname = "x"\nkeys = ["{HASH}", "{HASH}"]\n', "given twice"),
        (ENTRIES + f'[clients.app]\nname = "x"\nkeys = ["{HASH}"]\n', "given twice"),
    ],
)
def test_a_broken_registry_stops_the_start_with_its_name(path: Path, text: str, says: str) -> None:
    """The sentence names the file and the place, and quotes no secret."""
    path.write_text(text)

    with pytest.raises(ValueError, match=says) as caught:
        read_keys(str(path))

    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_fresh_key_opens_and_is_not_stored(tmp_path: Path) -> None:
    """What the command prints for the registry is enough to let the key in, and does not contain it."""
    key, stored = make_key()
    path = tmp_path / "clients.toml"
    path.write_text(f'[clients.app]\nname = "App"\nkeys = ["{stored}"]\n')

    assert Registry(str(path)).find(key, "").client_id == "app"
    assert key not in path.read_text()
    assert make_key()[0] != key
