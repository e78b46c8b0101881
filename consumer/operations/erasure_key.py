"""Who was erased, as the table `erasures` keeps it: keyed hashes of ids, and until when."""

import hashlib
import hmac
import json
from typing import Final

from consumer.clickhouse.client import Connection, ExternalTable
from consumer.clickhouse.streams import text_bytes
from consumer.errors import Misconfigured

KEY_BYTES_MIN: Final = 16
_BLOCK_BYTES: Final = 64  # of SHA-256, in HMAC: RFC 2104
_RECORDED: Final = """
SELECT kind, digest, toUnixTimestamp64Milli(max(until)) AS until_ms FROM {of_erasures:Identifier}
WHERE key_id = {key_id:String} GROUP BY kind, digest
"""


class ErasureKey:
    """The key of the hashes: without it ids can't be tried against them."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES_MIN:
            raise Misconfigured(
                f"CONSUMER_ERASURE_KEY_FILE: the key has {len(key)} bytes; it needs {KEY_BYTES_MIN} or more, such as"
                " those of `openssl rand -hex 32`"
            )
        self._key = key

    @property
    def key_id(self) -> str:
        """Tells the key from others, without telling it."""
        return self.digest("")[:16]

    def digest(self, value: str) -> str:
        """Return an id's hash."""
        return hmac.new(self._key, text_bytes(value), hashlib.sha256).hexdigest()

    def external(self) -> ExternalTable:
        """Return what ClickHouse needs to compute the same, beside the query and so in no log."""
        key = self._key if len(self._key) <= _BLOCK_BYTES else hashlib.sha256(self._key).digest()
        block = key.ljust(_BLOCK_BYTES, b"\0")
        inner, outer = (bytes(byte ^ pad for byte in block).hex() for pad in (0x36, 0x5C))
        row = json.dumps({"inner_pad": inner, "outer_pad": outer}).encode()
        return ExternalTable("erasure_key", "inner_pad String, outer_pad String", row, "JSONEachRow")


def recorded(connection: Connection, key: ErasureKey) -> dict[tuple[str, str], int]:
    """Return until when events are erased, in Unix ms, by what an id names and its hash.

    Raises:
        Transient, Fatal: as errors.py says.
    """
    rows = connection.query(_RECORDED, {**connection.layout.names("erasures"), "key_id": key.key_id})
    return {(row["kind"], row["digest"]): row["until_ms"] for row in rows}
