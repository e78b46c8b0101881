"""Newline-delimited JSON: one event a line, as log shippers send it.

https://github.com/ndjson/ndjson-spec. The lines are the elements of a batch, so every other rule is the batch's. A
line ends with LF or CR LF; blank lines are skipped, and a byte order mark before the first one. A line that is no JSON
is the fault of its event alone: where the next event begins is never in doubt.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from ingest.errors import ErrorCode, Fault, Rejected, Rule
from ingest.events.envelope import BODY
from ingest.events.parsing import BOM
from ingest.events.salvage import elements, read_element
from ingest.events.structure import count_nodes

_BLANKS: Final = b" \t\r"
_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")


def lines_of(body: bytes) -> Iterator[bytes]:
    """Yield each line that is not blank, without the white space around it."""
    start = len(BOM) if body.startswith(BOM) else 0
    return (match[0].rstrip(_BLANKS) for match in _LINE.finditer(body, start))


def read_lines(body: bytes, events_max: int) -> list[Any]:
    """Return the value of each line, or a Malformed for one that is no JSON.

    Raises:
        Rejected: 400, there is no line, or more than `events_max`.
    """
    lines = list(islice(lines_of(body), events_max + 1))
    if not 1 <= len(lines) <= events_max:
        message = f"the body must have 1 to {events_max} lines with an event, got {'more' if lines else 'none'}"
        raise Rejected(ErrorCode.EVENT_COUNT, message, (Fault(Rule.ITEMS, "", message),))
    return [read_element(line) for line in lines]


def sent_events(body: bytes, *, is_lines: bool) -> list[bytes]:
    """Return each event of a body that was judged, as it was sent."""
    return list(lines_of(body)) if is_lines else elements(body, BODY)


def count_nodes_of_lines(body: bytes, most: int) -> int:
    """Return how many nodes the lines have, as `count_nodes` does for a text of one value.

    A line is counted alone when there may be too many: a quote that one line leaves open must not hide the next ones.
    """
    nodes = body.count(b"\n") + count_nodes(body, len(body) + 1)
    if nodes <= most:
        return nodes
    nodes = 0
    for line in lines_of(body):
        nodes += count_nodes(line, most)
        if nodes > most:
            break
    return nodes
