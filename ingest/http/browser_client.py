"""The routes of the browser client: /headrace.js, /headrace.mjs, and the same under a path with a version.

A version is the major number and a digest of the source, so what stands under its path never changes and may be cached
for ever. Another version with the same major number is redirected to this one: pages that name it go on while processes
of two releases run, and after the old ones have gone.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from flask import Flask, Response, abort, request

SCRIPT: Final = "headrace.js"
MODULE: Final = "headrace.mjs"
TYPES: Final = "headrace.d.ts"
_MAJOR: Final = "1"
_DIGEST_LENGTH: Final = 12
_HOUR_S: Final = 3600
_FOREVER: Final = "public, max-age=31536000, immutable"
_SOON: Final = f"public, max-age={_HOUR_S}"
_JAVASCRIPT: Final = "text/javascript; charset=utf-8"
_MEDIA_TYPES: Final = {SCRIPT: _JAVASCRIPT, MODULE: _JAVASCRIPT, TYPES: "text/plain; charset=utf-8"}
_COMMENT: Final = re.compile(rb"^ *//.*\n", re.MULTILINE)  # a whole line
_SCRIPT_END: Final = b"})(document.currentScript);\n"
_MODULE_END: Final = b"""})({ src: import.meta.url, dataset: {} });
export default headrace;
export const { init, track, view, flush, pending } = headrace;
"""


@dataclass(frozen=True, slots=True)
class BrowserClient:
    """The client's files by name, and their version."""

    version: str
    files: dict[str, bytes]

    @property
    def path(self) -> str:
        """Where the files are found for ever, with a slash at the end."""
        return f"/headrace/{self.version}/"


def read_browser_client() -> BrowserClient:
    """Read the client's source, without its comments, and make the ES module from it."""
    directory = files("clients") / "browser"
    script, types = _COMMENT.sub(b"", (directory / SCRIPT).read_bytes()), (directory / TYPES).read_bytes()
    module = script.removesuffix(_SCRIPT_END) + _MODULE_END
    return client_of({SCRIPT: script, MODULE: module, TYPES: types})


def client_of(texts: Mapping[str, bytes]) -> BrowserClient:
    """Return these files under the version that they make."""
    digest = sha256(b"\0".join(texts[name] for name in sorted(texts))).hexdigest()[:_DIGEST_LENGTH]
    return BrowserClient(f"{_MAJOR}.{digest}", dict(texts))


def add_browser_client(app: Flask, client: BrowserClient) -> None:
    """Add the routes."""
    packed = {name: gzip.compress(text, mtime=0) for name, text in client.files.items()}

    def answer(name: str, cached: str) -> Response:
        is_packed = request.accept_encodings["gzip"] > 0
        response = Response(packed[name] if is_packed else client.files[name], content_type=_MEDIA_TYPES[name])
        if is_packed:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Cache-Control"] = cached
        response.headers["Content-Location"] = client.path + name
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # for pages with COEP
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.vary.add("Accept-Encoding")
        response.set_etag(f"{client.version}{'-gzip' * is_packed}")
        response.make_conditional(request)
        return response

    @app.get(f"/{SCRIPT}")
    def script() -> Response:
        return answer(SCRIPT, _SOON)

    @app.get(f"/{MODULE}")
    def module() -> Response:
        return answer(MODULE, _SOON)

    @app.get("/headrace/<version>/<name>")
    def versioned(version: str, name: str) -> Response:
        if name not in client.files or version.partition(".")[0] != _MAJOR:
            abort(404)
        if version == client.version:
            return answer(name, _FOREVER)
        headers = {"Location": client.path + name, "Cache-Control": "no-cache"}
        return Response(status=HTTPStatus.FOUND, headers=headers, content_type="text/plain")
