"""Images are pinned by what their registry says, and by nothing else."""

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.release.lock import ROOT
from deploy.release.pin import FILES, NoDigestError, digest_of, images_of, main, pinned, unpinned

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
TEXT = """# FROM a:1 of a comment
FROM python:3.11.15-slim-bookworm AS build
COPY --from=build /a /b
    image: apache/kafka:4.1.1
    image: headrace/ingest:0.1.0
    image: registry.example:5000/team/tool:v1
"""


class _Registry(BaseHTTPRequestHandler):
    """A registry that wants a token, and knows one image."""

    def do_HEAD(self) -> None:
        is_known = self.path == "/v2/team/tool/manifests/v1"
        if self.headers.get("Authorization") != "Bearer anonymous":
            realm = f"http://{self.headers['Host']}/token"
            self._answer(
                401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:team/tool:pull"'}
            )
        elif is_known and "image.index" in self.headers["Accept"]:
            self._answer(200, {"Docker-Content-Digest": DIGEST})
        else:
            self._answer(404, {})

    def do_GET(self) -> None:
        is_token = self.path == "/token?service=s&scope=repository%3Ateam%2Ftool%3Apull"
        self._answer(200 if is_token else 404, {}, json.dumps({"token": "anonymous"}).encode())

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_images_of_others_are_pinned_and_ours_are_not() -> None:
    """A second time, a newer digest takes the place of the old one."""
    digests = {
        "python:3.11.15-slim-bookworm": DIGEST,
        "apache/kafka:4.1.1": DIGEST,
        "registry.example:5000/team/tool:v1": DIGEST,
    }

    assert images_of(TEXT) == sorted(digests)
    once = pinned(TEXT, digests)
    assert f"FROM python:3.11.15-slim-bookworm@{DIGEST} AS build" in once
    assert "image: headrace/ingest:0.1.0\n" in once
    assert "# FROM a:1 of" in once
    assert unpinned(once) == []
    assert images_of(once) == sorted(digests)
    assert pinned(once, dict.fromkeys(digests, OTHER)) == pinned(TEXT, dict.fromkeys(digests, OTHER))


def test_the_registry_says_the_digest(registry: str) -> None:
    """With the anonymous token that it asks for."""
    assert digest_of(f"{registry}/team/tool:v1", "http") == DIGEST


def test_an_image_that_the_registry_lacks_is_one_sentence(registry: str) -> None:
    """Nothing is pinned then."""
    for image in (f"{registry}/team/other:v1", "127.0.0.1:1/team/tool:v1"):
        with pytest.raises(NoDigestError, match="does not say its digest"):
            digest_of(image, "http")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When one digest is unknown, all files stay as they are."""
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_text("FROM a:1\n")
    paths[1].write_text("FROM b:1\n")
    names = [str(path) for path in paths]

    def refuse(image: str) -> str:
        if image == "b:1":
            raise NoDigestError("b:1: away")
        return DIGEST

    with pytest.raises(SystemExit, match="b:1: away"):
        main(names, refuse)
    assert [path.read_text() for path in paths] == ["FROM a:1\n", "FROM b:1\n"]
    with pytest.raises(SystemExit, match="a: a:1 has no digest"):
        main(["--check", *names])

    main(names, lambda _: DIGEST)
    assert capsys.readouterr().out == f"a:1@{DIGEST}\nb:1@{DIGEST}\n"
    with pytest.raises(SystemExit) as end:
        main(["--check", *names])
    assert end.value.code == 0


def test_the_release_pins_every_file_with_images() -> None:
    """Each image of the compose file and of the Dockerfiles has a tag that can be pinned."""
    names = {name for file in FILES for name in images_of((ROOT / file).read_text("utf-8"))}

    assert {name.partition(":")[0] for name in names} >= {
        "python",
        "apache/kafka",
        "clickhouse/clickhouse-server",
        "valkey/valkey",
    }
