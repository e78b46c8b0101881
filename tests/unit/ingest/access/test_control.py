"""Access control: keys first, then the count, and every answer can say where the client stands."""

import asyncio
import gzip
from pathlib import Path

import pytest

from ingest.access.clients import Registry, make_key
from ingest.access.control import AccessControl, Admission
from ingest.access.rate_limit import Allowance, LocalLimiter
from ingest.errors import ErrorCode, Rejected
from tests.support.fake_broker import Clock
from tests.support.front import Shelf, front

KEY, HASH = make_key()
OTHER_KEY, OTHER_HASH = make_key()
PAGE_KEY, PAGE_HASH = make_key()
ENTRIES = f"""
[clients.web]
name = "Web site"
keys = ["{HASH}"]
rate_limit = 3
[clients.app]
name = "App"
keys = ["{OTHER_HASH}"]
[clients.page]
name = "Page"
keys = ["{PAGE_HASH}"]
origins = ["https://www.example.com"]
rate_limit = 20
event_limit = 1000
byte_limit = 50000
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three clients; one has its own limit, one is a page's."""
    path = tmp_path / "clients.toml"
    path.write_text(ENTRIES)
    return Registry(str(path))


def admit(gate: AccessControl, key: str, origin: str, address: str, at_s: float) -> Admission:
    """Admit a request in a separate loop."""
    return asyncio.run(gate.admit(key, origin, address, at_s))


def slug_of(ticket: Admission) -> ErrorCode | None:
    """Return why a ticket does not let in."""
    return ticket.refusal.code if ticket.refusal else None


def test_an_open_gate_lets_everybody_in() -> None:
    """Without a registry and a limiter there is nothing to check and nothing to tell."""
    ticket = admit(AccessControl(None, None, Allowance(0)), "", "", "192.0.2.1", 0)

    ticket.check()
    assert (ticket.headers, ticket.client_id) == ((), "")


def test_without_keys_an_address_is_a_client() -> None:
    """Requests of one address share a window, in an open collector."""
    gate = AccessControl(None, LocalLimiter(60), Allowance(1))
    admit(gate, "", "", "192.0.2.1", 0)

    assert slug_of(admit(gate, "", "", "192.0.2.1", 0)) is ErrorCode.RATE_LIMIT
    assert slug_of(admit(gate, "", "", "192.0.2.2", 0)) is None


def test_with_keys_a_client_is_counted_wherever_it_comes_from(registry: Registry) -> None:
    """The window is the client's over all its addresses, with the limit that the registry gives it."""
    gate = AccessControl(registry, LocalLimiter(60), Allowance(1))
    slugs = [slug_of(admit(gate, KEY, "", f"192.0.2.{host}", 0)) for host in range(4)]

    assert slugs == [None, None, None, ErrorCode.RATE_LIMIT]
    assert slug_of(admit(gate, OTHER_KEY, "", "192.0.2.1", 0)) is None
    assert slug_of(admit(gate, OTHER_KEY, "", "192.0.2.1", 0)) is ErrorCode.RATE_LIMIT


def test_guessing_keys_is_limited_by_address(registry: Registry) -> None:
    """A wrong key is a 401 until the address has used its window up."""
    gate = AccessControl(registry, LocalLimiter(60), Allowance(2))

    assert [slug_of(admit(gate, "guess", "", "192.0.2.1", 0)) for _ in range(3)] == [
        ErrorCode.UNKNOWN_KEY,
        ErrorCode.UNKNOWN_KEY,
        ErrorCode.RATE_LIMIT,
    ]
    assert slug_of(admit(gate, KEY, "", "192.0.2.1", 0)) is None


def test_a_refused_ticket_bears_the_window_too(registry: Registry) -> None:
    """A 401 says what remains, as every answer does."""
    ticket = admit(AccessControl(registry, LocalLimiter(60), Allowance(5)), "", "", "192.0.2.1", 0)

    assert dict(ticket.headers)["X-RateLimit-Remaining"] == "4"
    with pytest.raises(Rejected):
        ticket.check()


def test_at_the_limit_the_wait_is_told() -> None:
    """429 comes with Retry-After in whole seconds."""
    clock = Clock()
    gate = AccessControl(None, LocalLimiter(60, now_s=clock), Allowance(1))
    admit(gate, "", "", "192.0.2.1", 10)
    clock.now_s += 19.5
    ticket = admit(gate, "", "", "192.0.2.1", 29.5)

    assert ticket.refusal is not None
    assert ticket.refusal.status == 429
    assert ticket.refusal.headers == (("Retry-After", "41"),)
    assert ticket.refusal.message == "the limit of 1 requests is reached, try again in 41 s"


@pytest.mark.parametrize(
    ("held", "slug", "message"),
    [
        ((10, 0), ErrorCode.EVENT_LIMIT, "the limit of 10 events is reached, try again in 60 s"),
        ((0, 999), ErrorCode.BYTE_LIMIT, "the limit of 999 bytes of events is reached, try again in 60 s"),
        ((9, 998), None, ""),
    ],
)
def test_a_spent_budget_is_named(held: tuple[int, int], slug: ErrorCode | None, message: str) -> None:
    """429 with a wait; the headers go on telling of requests, of which enough are left."""
    gate = AccessControl(None, LocalLimiter(60), Allowance(100, 10, 999))
    gate.spend(admit(gate, "", "", "192.0.2.1", 0), *held)
    ticket = admit(gate, "", "", "192.0.2.1", 0)

    assert slug_of(ticket) is slug
    assert dict(ticket.headers)["X-RateLimit-Remaining"] == "98"
    if ticket.refusal is not None:
        assert (ticket.refusal.status, ticket.refusal.message) == (429, message)
        assert ticket.refusal.headers == (("Retry-After", "60"),)


def test_one_visitor_of_a_page_uses_up_his_share_and_no_more(registry: Registry) -> None:
    """A key that pages use is no secret: a tenth of its limits is one address's, and the rest is there for others."""
    gate = AccessControl(registry, LocalLimiter(60), Allowance(1))
    slugs = [slug_of(admit(gate, PAGE_KEY, "", "192.0.2.1", 0)) for _ in range(30)]
    last = admit(gate, PAGE_KEY, "", "192.0.2.1", 0)
    others = [slug_of(admit(gate, PAGE_KEY, "", f"198.51.100.{host}", 0)) for host in range(19)]

    assert slugs == [None, None] + [ErrorCode.RATE_LIMIT] * 28
    assert last.refusal is not None
    assert last.refusal.message == "the limit of 2 requests from one address is reached, try again in 60 s"
    assert others == [None] * 18 + [ErrorCode.RATE_LIMIT]


@pytest.mark.parametrize(("held", "slug"), [((100, 0), ErrorCode.EVENT_LIMIT), ((0, 5000), ErrorCode.BYTE_LIMIT)])
def test_a_share_is_one_of_events_and_bytes_too(registry: Registry, held: tuple[int, int], slug: ErrorCode) -> None:
    """What one visitor sent counts for all of his client, and is more than his share alone."""
    gate = AccessControl(registry, LocalLimiter(60), Allowance(1))
    for host in range(10):
        address = f"192.0.2.{host}"
        gate.spend(admit(gate, PAGE_KEY, "", address, 0), *held)
        assert slug_of(admit(gate, PAGE_KEY, "", address, 0)) is slug

    ticket = admit(gate, PAGE_KEY, "", "198.51.100.1", 0)

    assert slug_of(ticket) is slug
    assert ticket.refusal is not None
    assert "from one address" not in ticket.refusal.message


def test_the_headers_tell_of_the_window_with_less_left(registry: Registry) -> None:
    """The visitor's while the client has many, the client's when it has few."""
    gate = AccessControl(registry, LocalLimiter(60), Allowance(1))
    told = [
        dict(admit(gate, PAGE_KEY, "", f"192.0.2.{host}", 0).headers)["X-RateLimit-Remaining"] for host in range(20)
    ]

    assert told == ["1"] * 19 + ["0"]


def test_what_is_inflated_and_refused_is_spent() -> None:
    """A small body of too many values costs its sender what it made the process read; the next request hears of it."""
    gate = AccessControl(None, LocalLimiter(60), Allowance(100, 100, 1_000_000))
    client = front(Shelf(), gate).test_client()
    bomb = gzip.compress(b"[" * 1_000_000)

    answers = [
        client.post("/collect/event", data=bomb, headers={"Content-Encoding": "gzip"}, content_type="application/json")
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [413, 429]
    assert "bytes of events" in answers[1].get_json()["message"]
