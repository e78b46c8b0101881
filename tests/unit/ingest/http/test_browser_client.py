"""The routes of the browser client: small, cached for ever under its version, and reachable under any of its major."""

import gzip
import re
from collections.abc import Mapping

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from ingest.http.browser_client import BrowserClient, add_browser_client, client_of, read_browser_client
from tests.support.front import Shelf, front

PACKED_BYTES_MAX = 3 * 1024
CLIENT = BrowserClient("1.abc", {"headrace.js": b"script", "headrace.mjs": b"module", "headrace.d.ts": b"types"})


def ask(path: str, headers: Mapping[str, str] | None = None) -> TestResponse:
    """Ask an application that serves CLIENT."""
    app = Flask("test", static_folder=None)
    add_browser_client(app, CLIENT)
    return app.test_client().get(path, headers=headers)


def test_the_client_is_small() -> None:
    """A page pays at most 3 KiB for it."""
    files = read_browser_client().files

    assert max(len(gzip.compress(files[name])) for name in ("headrace.js", "headrace.mjs")) <= PACKED_BYTES_MAX


def test_script_module_and_types_offer_the_same() -> None:
    """Each function of the script is exported by the module and declared for TypeScript."""
    files = {name: text.decode() for name, text in read_browser_client().files.items()}

    def names(pattern: str, text: str) -> set[str]:
        found = re.search(pattern, text)
        assert found is not None
        return set(re.findall(r"\w+", re.sub(r":[^,}]*", "", found[1])))

    offered = names(r"return \{([^}]*)\};\n\}\)\(document", files["headrace.js"])
    assert offered == {"init", "track", "view", "flush", "pending"}
    assert names(r"export const \{([^}]*)\}", files["headrace.mjs"]) == offered
    assert set(re.findall(r"export function (\w+)", files["headrace.d.ts"])) == offered
    assert "document.currentScript" not in files["headrace.mjs"]


@pytest.mark.parametrize(
    ("path", "body", "media_type"),
    [
        ("/headrace.js", b"script", "text/javascript"),
        ("/headrace.mjs", b"module", "text/javascript"),
        ("/headrace/1.abc/headrace.js", b"script", "text/javascript"),
        ("/headrace/1.abc/headrace.mjs", b"module", "text/javascript"),
        ("/headrace/1.abc/headrace.d.ts", b"types", "text/plain"),
    ],
)
def test_each_file_is_served(path: str, body: bytes, media_type: str) -> None:
    """Under its version it is cached for a year, else for an hour; pages of any origin may run it."""
    answer = ask(path)

    assert (answer.status_code, answer.data, answer.mimetype) == (200, body, media_type)
    assert ("immutable" in answer.headers["Cache-Control"]) == ("1.abc" in path)
    assert answer.headers["Content-Location"].startswith("/headrace/1.abc/")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_caller_that_takes_gzip_gets_it() -> None:
    """And caches keep the two forms apart."""
    packed = ask("/headrace.js", {"Accept-Encoding": "gzip, br"})
    plain = ask("/headrace.js", {"Accept-Encoding": "gzip;q=0"})

    assert (packed.headers["Content-Encoding"], gzip.decompress(packed.data)) == ("gzip", b"script")
    assert (plain.headers.get("Content-Encoding"), plain.data) == (None, b"script")
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert packed.headers["ETag"] != plain.headers["ETag"]


def test_a_caller_that_has_it_gets_nothing_again() -> None:
    """304 for the ETag of before."""
    answer = ask("/headrace.js", {"If-None-Match": ask("/headrace.js").headers["ETag"]})

    assert (answer.status_code, answer.data) == (304, b"")


def test_a_condition_that_fails_is_an_error_like_any_other() -> None:
    """JSON, and nothing that a cache between would keep for a year in the script's place."""
    app = front(Shelf())
    add_browser_client(app, CLIENT)
    answer = app.test_client().get("/headrace/1.abc/headrace.js", headers={"If-Match": '"other"'})

    assert (answer.status_code, answer.mimetype, answer.get_json()["statusCode"]) == (412, "application/json", 412)
    assert "Cache-Control" not in answer.headers


def test_another_version_of_the_same_major_leads_to_this_one() -> None:
    """A page goes on while two releases run; no cache keeps the redirection."""
    answer = ask("/headrace/1.fff/headrace.mjs")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/headrace/1.abc/headrace.mjs")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.data == b""


@pytest.mark.parametrize(
    "path", ["/headrace/2.abc/headrace.js", "/headrace/1.abc/other.js", "/headrace/10.abc/headrace.js"]
)
def test_nothing_else_is_there(path: str) -> None:
    """Another major number promises another interface."""
    assert ask(path).status_code == 404


@pytest.mark.parametrize("name", CLIENT.files)
def test_another_source_has_another_version(name: str) -> None:
    """What is cached for ever cannot change under its path."""
    version = client_of(CLIENT.files).version
    changed = client_of(CLIENT.files | {name: b"changed"}).version

    assert re.fullmatch(r"1\.[0-9a-f]{12}", version)
    assert re.fullmatch(r"1\.[0-9a-f]{12}", changed)
    assert changed != version
