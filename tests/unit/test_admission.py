"""The gate: keys first, then the count, and every answer can say where the client stands."""

from pathlib import Path

import pytest

from ingest.admission import Gate, Ticket
from ingest.clients import Registry, make_key
from ingest.errors import Rejected, Slug
from ingest.ratelimit import LocalLimiter

KEY, HASH = make_key()
OTHER_KEY, OTHER_HASH = make_key()
ENTRIES = f"""
[clients.web]
name = "Web site"
keys = ["{HASH}"]
rate_limit = 3
[clients.app]
name = "App"
keys = ["{OTHER_HASH}"]
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two clients, one with a limit of its own."""
    path = tmp_path / "clients.toml"
    path.write_text(ENTRIES)
    return Registry(str(path))


def slug_of(ticket: Ticket) -> Slug | None:
    """Return why a ticket does not let in."""
    return ticket.refusal.slug if ticket.refusal else None


def test_an_open_gate_lets_everybody_in() -> None:
    """Without a registry and a limiter there is nothing to check and nothing to tell."""
    ticket = Gate(None, None, 0).admit("", "", "192.0.2.1", 0)

    ticket.check()
    assert (ticket.headers, ticket.client_id) == ((), "")


def test_without_keys_an_address_is_a_client() -> None:
    """Requests of one address share a window, in an open collector."""
    gate = Gate(None, LocalLimiter(60), 1)
    gate.admit("", "", "192.0.2.1", 0)

    assert slug_of(gate.admit("", "", "192.0.2.1", 0)) is Slug.RATE_LIMIT
    assert slug_of(gate.admit("", "", "192.0.2.2", 0)) is None


def test_with_keys_a_client_is_counted_wherever_it_comes_from(registry: Registry) -> None:
    """The window is the client's over all its addresses, with the limit that the registry gives it."""
    gate = Gate(registry, LocalLimiter(60), 1)
    slugs = [slug_of(gate.admit(KEY, "", f"192.0.2.{host}", 0)) for host in range(4)]

    assert slugs == [None, None, None, Slug.RATE_LIMIT]
    assert slug_of(gate.admit(OTHER_KEY, "", "192.0.2.1", 0)) is None
    assert slug_of(gate.admit(OTHER_KEY, "", "192.0.2.1", 0)) is Slug.RATE_LIMIT


def test_guessing_keys_is_limited_by_address(registry: Registry) -> None:
    """A wrong key is a 401 until the address has used its window up."""
    gate = Gate(registry, LocalLimiter(60), 2)

    assert [slug_of(gate.admit("guess", "", "192.0.2.1", 0)) for _ in range(3)] == [
        Slug.UNKNOWN_KEY,
        Slug.UNKNOWN_KEY,
        Slug.RATE_LIMIT,
    ]
    assert slug_of(gate.admit(KEY, "", "192.0.2.1", 0)) is None


def test_a_refused_ticket_bears_the_window_too(registry: Registry) -> None:
    """A 401 says what remains, as every answer does."""
    ticket = Gate(registry, LocalLimiter(60), 5).admit("", "", "192.0.2.1", 0)

    assert dict(ticket.headers)["X-RateLimit-Remaining"] == "4"
    with pytest.raises(Rejected):
        ticket.check()


def test_at_the_limit_the_wait_is_told() -> None:
    """429 comes with Retry-After in whole seconds."""
    gate = Gate(None, LocalLimiter(60), 1)
    gate.admit("", "", "192.0.2.1", 10)
    ticket = gate.admit("", "", "192.0.2.1", 29.5)

    assert ticket.refusal is not None
    assert ticket.refusal.status == 429
    assert ticket.refusal.headers == (("Retry-After", "41"),)
    assert ticket.refusal.message == "the limit of 1 requests is reached, try again in 41 s"
