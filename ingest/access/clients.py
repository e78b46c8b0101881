"""The client registry: who may send, with which keys, from which pages, and how much. A TOML file that people edit.

    [clients.web]                            # the clientId
    name = "Web site"
    keys = ["sha256:9f86d081…"]              # several while a key is replaced; `python -m ingest key` makes one
    disabled_keys = []                       # answered 403 instead of 401
    enabled = true
    origins = ["https://www.example.com"]    # pages that may send; none listed: any
    rate_limit = 5000                        # requests in a window; absent: INGEST_RATE_LIMIT_REQUESTS
    event_limit = 500000                     # events in a window; absent: INGEST_RATE_LIMIT_EVENTS
    byte_limit = 1000000000                  # bytes of events in a window; absent: INGEST_RATE_LIMIT_BYTES
    address_share = 0.1                      # one address's share of these; absent: 0.1 with origins, else 1

Every reader of a page can see its key. `address_share` keeps one reader from using up the limit of all.

Keys are stored as SHA-256 and not as a slow hash: slow hashes protect guessable passwords, and a key has 256 random
bits. A slow hash would cost each request 100 ms.
"""

import hashlib
import hmac
import logging
import os
import secrets
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Final

import msgspec

from ingest.access.origins import is_origin
from ingest.access.rate_limit import Allowance
from ingest.errors import ErrorCode, Rejected

log = logging.getLogger(__name__)

_CHECK_S: Final = 1.0
_KEY_PREFIX: Final = "hrk_"  # secret scanners and people recognise it
_KEY_BYTES: Final = 32
# It takes ten addresses together to use up a page's limit; an office behind one address gets a tenth.
_VISITORS_SHARE: Final = 0.1
_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="headrace"'),)

_Hash = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
_Limit = Annotated[int, msgspec.Meta(ge=1)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text
    keys: tuple[_Hash, ...]
    disabled_keys: tuple[_Hash, ...] = ()
    enabled: bool = True
    origins: tuple[str, ...] = ()
    rate_limit: _Limit | None = None
    event_limit: _Limit | None = None
    byte_limit: _Limit | None = None
    address_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clients: dict[_Text, _Entry]


@dataclass(frozen=True, slots=True)
class Client:
    """One entry of the registry: without `origins` (lower case) every page may send; a limit of None is the default."""

    client_id: str
    name: str
    enabled: bool
    origins: frozenset[str]
    rate_limit: int | None
    event_limit: int | None
    byte_limit: int | None
    address_share: float

    def allowance(self, default: Allowance) -> Allowance:
        """Return the client's allowance per window."""
        return Allowance(
            self.rate_limit or default.requests,
            self.event_limit or default.events,
            self.byte_limit or default.size_bytes,
        )


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    client: Client
    enabled: bool


Keys = Mapping[bytes, _Key]
"""Keys by their SHA-256."""


class Registry:
    """The keys of the registry's file, which is read again when it changes. Threads share it.

    A request checks the file, at most once a second. After a broken edit the last good state stays in force, and the
    log says so. Replace the file by renaming: half a file may be valid TOML.
    """

    def __init__(self, path: str, now_s: Callable[[], float] = monotonic) -> None:
        """Read the file.

        Raises:
            ValueError: the file can't be read or is no registry; the message names the file and the place.
        """
        self._path = path
        self._lock = threading.Lock()
        self._seen = _signature(path)
        self._keys = read_keys(path)
        self._now_s = now_s
        self._checked_s = now_s()

    @property
    def size(self) -> int:
        """The number of keys."""
        return len(self._keys)

    def find(self, key: str, origin: str) -> Client:
        """Return the client that a key belongs to.

        Args:
            key: the request's key; "" when it has none.
            origin: the page's origin; "" when the request names none.

        Raises:
            Rejected: 401 for no key or an unknown one; 403 for a disabled key or client, or an origin not allowed.
        """
        self._refresh(self._now_s())
        if not key:
            message = "a key is required, as X-API-Key, Authorization: Bearer or ?key="
            raise Rejected(ErrorCode.NO_KEY, message, headers=_CHALLENGE)
        known = _find(self._keys, key)
        if known is None:
            raise Rejected(ErrorCode.UNKNOWN_KEY, "the key is unknown", headers=_CHALLENGE)
        if not known.enabled:
            raise Rejected(ErrorCode.KEY_DISABLED, "the key is disabled")
        if not known.client.enabled:
            raise Rejected(ErrorCode.CLIENT_DISABLED, "the client is disabled")
        if origin and known.client.origins and origin.lower() not in known.client.origins:
            raise Rejected(ErrorCode.ORIGIN_NOT_ALLOWED, "the client's key does not allow this origin")
        return known.client

    def _refresh(self, now_s: float) -> None:
        if now_s - self._checked_s < _CHECK_S or not self._lock.acquire(blocking=False):
            return
        try:
            self._checked_s = now_s
            seen = _signature(self._path)
            if seen != self._seen:
                self._seen = seen  # even when it is broken: one log line per edit, not one per second
                self._reload()
        finally:
            self._lock.release()

    def _reload(self) -> None:
        try:
            self._keys = read_keys(self._path)
        except ValueError as error:
            log.error("client registry can't be read, the last good one stays in force", extra={"reason": str(error)})  # noqa: TRY400  (the reason says it all)
        else:
            log.info("client registry read again", extra={"path": self._path, "keys": len(self._keys)})


def _find(keys: Keys, key: str) -> _Key | None:
    digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
    known = keys.get(digest)
    # The lookup's time can reveal where hashes differ, never keys; the comparison takes constant time.
    return known if known is not None and hmac.compare_digest(known.digest, digest) else None


def read_keys(path: str) -> Keys:
    """Read a registry's file.

    Raises:
        ValueError: the file can't be read, is no registry, or has a key twice.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (tomllib reads from it)
            entries = msgspec.convert(tomllib.load(file), _File).clients
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    keys: dict[bytes, _Key] = {}
    for client_id, entry in entries.items():
        for origin in entry.origins:
            if not is_origin(origin):
                raise ValueError(f"{path}: {client_id}: {origin!r} is no origin such as https://www.example.com")
        client = _client(client_id, entry)
        for text in (*entry.keys, *entry.disabled_keys):
            digest = bytes.fromhex(text.removeprefix("sha256:"))
            if digest in keys:
                raise ValueError(f"{path}: a key of {client_id} is given twice: {text[:15]}…")
            keys[digest] = _Key(digest, client, text in entry.keys)
    return keys


def _client(client_id: str, entry: _Entry) -> Client:
    share = entry.address_share
    if share is None:
        share = _VISITORS_SHARE if entry.origins else 1
    limits = (entry.rate_limit, entry.event_limit, entry.byte_limit)
    return Client(client_id, entry.name, entry.enabled, frozenset(map(str.lower, entry.origins)), *limits, share)


def make_key() -> tuple[str, str]:
    """Return a new key of 256 random bits, and its hash for the registry."""
    key = _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _signature(path: str) -> tuple[int, int, int] | None:
    """Return a value that changes when the file does; None when there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  (hot path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
