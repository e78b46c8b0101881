"""Native answers for clients with a protocol revision, as clickhouse-go and Grafana's plugin send one."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from deploy.embedded.clickhouse_native import REVISION, SETTINGS, framed

if TYPE_CHECKING:
    from tests.support.clickhouse import EmbeddedClickHouse

BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"


def native(clickhouse: EmbeddedClickHouse, query: str, **parameters: str) -> bytes:
    """Return the answer in Native."""
    url = f"{clickhouse.url}/?{urlencode({'query': query, 'default_format': 'Native', **parameters})}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize(
    "value",
    [
        "toUInt8(number)",
        "number % 2 = 0",
        "toString(number * 1000)",
        "repeat('long', 100)",
        "toFixedString('abc', 3)",
        "toDate('2026-01-02') + number",
        "now64(3, 'UTC')",
        "toDecimal64(number, 3)",
        "toDecimal256(number, 3)",
        "toUUID('00112233-4455-6677-8899-aabbccddeeff')",
        "toIPv6('::1')",
        "toIntervalDay(number)",
        "CAST('it''s, (odd)', 'Enum16(\\'it\\\\\\'s, (odd)\\' = 300, \\'b\\' = 2)')",
        "nullIf(number, 1)",
        "NULL",
        "toLowCardinality(toString(number))",
        "toLowCardinality(nullIf(toString(number), '1'))",
        "range(number)",
        "arrayMap(x -> toLowCardinality(toString(x)), range(number))",
        "[[toString(number)], [], ['a', 'b']]",
        "map('k', toLowCardinality(toString(number)), 'l', '')",
        "(number, 'a', [nullIf(number, 1)])",
        "CAST((1, 'x'), 'Tuple(`a b` UInt8, LowCardinality String)')",
        """CAST('{"a": {"b": ' || toString(number) || '}}', 'JSON')""",
        """[CAST('{"a": 1}', 'JSON')]""",
        "CAST(number, 'SimpleAggregateFunction(sum, UInt64)')",
    ],
)
def test_every_block_and_column_gets_its_frame(embedded_clickhouse: EmbeddedClickHouse, value: str) -> None:
    """Each block of each type ends where the walk over it says: the frames stand where the next thing begins."""
    # One row a block, so that a block is found by how the next one begins: two columns, one row, `x`.
    query = f"SELECT {value} AS x, 'end' AS y FROM numbers(4) SETTINGS max_block_size = 1, max_threads = 1"
    plain = native(embedded_clickhouse, query, **SETTINGS)
    blocks = [b"\x02\x01\x01x" + block for block in plain.split(b"\x02\x01\x01x")[1:]]
    assert len(blocks) == 4
    expected = b""
    for block in blocks:
        first, _, _ = block.rpartition(b"\x01y\x06String\x03end")
        kind_end = 5 + block[4]
        expected += BLOCK_INFO + first[:kind_end] + b"\x00" + first[kind_end:] + b"\x01y\x06String\x00\x03end"
    assert framed(plain) == expected


def test_frames_are_for_those_that_ask(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """clickhouse-connect asks for an older revision, finds none and reads on without."""
    query = "SELECT 1 AS x"
    assert native(embedded_clickhouse, query) == b"\x01\x01\x01x\x05UInt8\x01"
    assert native(embedded_clickhouse, query, client_protocol_version="54405") == b"\x01\x01\x01x\x05UInt8\x01"
    frames = BLOCK_INFO + b"\x01\x01\x01x\x05UInt8\x00\x01"
    assert native(embedded_clickhouse, query, client_protocol_version=str(REVISION)) == frames
    assert native(embedded_clickhouse, "SELECT 1 WHERE 0", client_protocol_version=str(REVISION)) == b""
