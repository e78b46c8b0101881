"""The contract's rows on how much one request may hold: values, members, names, copies of its headers."""

import gzip
from typing import Final

from tests.contract.rows import FRESH, JSON, Row, bad_event, error, left, request, shown, taken
from tests.contract.rows_of_events import VIEW

NODES: Final = error(413, "the body has more than 100000 JSON values, send fewer events at once")
MEMBERS: Final = "an event must have at most 1000 members, with those of the objects in it"
NAMES: Final = error(413, "the events have more than 2000 different names, send fewer at once")
LENIENT: Final = {**JSON, "Prefer": "handling=lenient"}


def of_nodes(count: int) -> bytes:
    """Return a body with exactly so many JSON values, one of which has all the commas that it likes."""
    inside = count - 6  # the request, messageBody, the event, its eventType, x, and one text
    return b'{"messageBody": [{"eventType": "VIEW", "x": [",,,,\\",,,",' + b",".join([b"0"] * inside) + b"]}]}"


def of_members(count: int) -> dict[str, object]:
    """Return an event of exactly so many members, half of them deep inside."""
    outside, inside = count // 2 - 2, count - count // 2
    deep = [{f"y{n}": n for n in range(inside)}]
    return VIEW | {f"x{n}": n for n in range(outside)} | {"deep": deep}


def of_names(count: int) -> bytes:
    """Return a body with exactly so many different names, in events of 500."""
    fresh = [f"x{n}" for n in range(count - 1)]
    return request(*(VIEW | dict.fromkeys(fresh[at : at + 499], 0) for at in range(0, len(fresh), 499)))


def of_copies(size: int) -> bytes:
    """Return a body of 500 events and so many bytes in messageHeaders."""
    return request(*[VIEW] * 500, messageHeaders={"a": "x" * (size - 1)})


ROWS: Final = [
    Row("100,000 values are taken", 201, of_nodes(100_000), events=1),
    Row("more are not", 413, of_nodes(100_001), NODES),
    Row("leniency does not extend to that", 413, of_nodes(100_001), NODES, headers=LENIENT),
    Row("nor does a dry run", 413, of_nodes(100_001), NODES, path="/collect/validate"),
    Row("nor a key", 413, of_nodes(100_001), NODES, headers=shown(Idempotency_Key="k")),
    Row(
        "they are counted before anything else is looked at",
        413,
        gzip.compress(b'{"":' * 200_000),
        NODES,
        headers={**JSON, "Content-Encoding": "gzip"},
    ),
    Row("an event of 1000 members is taken", 201, request(of_members(1000)), events=1),
    Row("one of more is not", 400, request(VIEW, of_members(1001)), bad_event(1, "", "members", MEMBERS)),
    Row(
        "it costs itself alone",
        201,
        request(VIEW, of_members(1001)),
        [*taken(FRESH), left(MEMBERS)],
        headers=LENIENT,
        events=1,
        letters=1,
    ),
    Row("2000 names are taken", 201, of_names(2000), events=5),
    Row("more names are not", 413, of_names(2001), NAMES),
    Row("not even leniently", 413, of_names(2001), NAMES, headers=LENIENT),
    Row("nor in a dry run", 413, of_names(2001), NAMES, path="/collect/validate"),
    Row("headers of 4 KB in 500 events are taken", 201, of_copies(4000), events=500),
    Row("headers of 16 KB in one are", 201, request(VIEW, messageHeaders={"a": "x" * 16_383}), events=1),
    Row("in 500 they are not", 413, of_copies(16_384)),
    Row("nor in a dry run", 413, of_copies(16_384), path="/collect/validate"),
    Row("nor many small ones", 413, request(*[VIEW] * 500, messageHeaders={f"{n}": "" for n in range(250)})),
    Row("nor a long User-Agent beside them", 413, of_copies(4000), headers=shown(User_Agent="x" * 8000)),
]
