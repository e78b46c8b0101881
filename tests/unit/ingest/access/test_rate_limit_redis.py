"""How long a request waits for a store that it is only now connected to."""

from typing import Any

import pytest

from ingest.access import rate_limit_redis
from ingest.access.rate_limit_redis import open_store
from schemas.transport.access import Access

TIMEOUT_S = 0.005


@pytest.mark.parametrize(
    ("shaking", "ended_ago_s", "waits"),
    [(0, float("inf"), False), (1, float("inf"), True), (0, 0.004, True), (0, 0.006, False)],
)
def test_a_handshake_and_the_login_after_it_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    shaking: int,
    ended_ago_s: float,
    waits: bool,  # noqa: FBT001  (pytest names it)
) -> None:
    """A new TLS connection takes longer than a request may wait for an answer; an old one has no such excuse."""
    store, options = open_store(Access("rediss://127.0.0.1:1"), TIMEOUT_S)
    kind: Any = store.connection_pool.connection_class  # ours, which the library's types don't know
    monkeypatch.setattr(rate_limit_redis, "monotonic", lambda: 1000.0)

    kind.shaking, kind.shaken_s = shaking, 1000.0 - ended_ago_s

    assert options.is_shaking_hands() is waits


def test_without_tls_there_is_no_handshake() -> None:
    """A plain connection is ready at once."""
    assert not open_store(Access("redis://127.0.0.1:1"), TIMEOUT_S)[1].is_shaking_hands()
