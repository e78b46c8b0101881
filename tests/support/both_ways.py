"""Takes requests with and without compiled code, and holds what becomes of them against each other."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ingest.counters import EventCounters
from ingest.errors import Rejected
from ingest.events import validator as ids_of
from ingest.events.collector import Collector, Prepared
from ingest.events.validator import Sender, Validator
from ingest.memory import Body, Unbounded
from schemas.codec import Encoder
from tests.support.front import SCHEMA, Shelf


def assert_alike(validator: Validator, body: bytes, sender: Sender, *, is_lines: bool = False) -> None:
    """Fail unless both ways give the same entries and records, byte by byte, or the same refusal."""
    sent = Body(body, len(body), Unbounded(), is_lines)

    assert _outcome(validator, sent, sender, is_compiled=True) == _outcome(validator, sent, sender, is_compiled=False)


def taken(validator: Validator, body: Body, sender: Sender, *, is_compiled: bool = True) -> Prepared:
    """Return what a lenient request comes to; fresh ids are the same each time."""
    collector = Collector(validator, Encoder(SCHEMA, 7), Shelf(), is_compiled=is_compiled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids_of, "uuid7s", _ids)
        return collector.prepare(body, sender, EventCounters().open(), lenient=True)


def _outcome(validator: Validator, body: Body, sender: Sender, *, is_compiled: bool) -> Any:
    try:
        prepared = taken(validator, body, sender, is_compiled=is_compiled)
    except Rejected as error:
        return error.code, str(error), error.faults
    # A dead letter's key is drawn for each.
    records = [record.value if record.dead else record for record in prepared.records]
    return prepared.entries, records, prepared.kinds, prepared.events


def _ids(at_ms: int) -> Iterator[str]:
    for number in range(100_000):
        yield str(uuid.UUID(int=at_ms << 80 | 7 << 76 | 2 << 62 | number))
