"""Settings that only make sense together: the start stops with the variable's name."""

import pytest

from ingest.settings import load

_LEAST = {"INGEST_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"INGEST_DELIVERY_TIMEOUT_MS": "5001"}, "INGEST_DELIVERY_TIMEOUT_MS"),
        ({"INGEST_ANSWER_DEADLINE_S": "4.4"}, "INGEST_ANSWER_DEADLINE_S"),
        ({"INGEST_KEEPALIVE_S": "0"}, "INGEST_KEEPALIVE_S"),
        ({"INGEST_SPOOL_FREE_BYTES_MIN": "0"}, "INGEST_SPOOL_FREE_BYTES_MIN"),
        ({"INGEST_QUEUE_BYTES_MAX": "1000"}, "INGEST_QUEUE_BYTES_MAX"),
        ({"INGEST_SPOOL_DIR": ""}, "INGEST_SPOOL_DIR"),
        ({"INGEST_SHUTDOWN_GRACE_S": "-1"}, "INGEST_SHUTDOWN_GRACE_S"),
    ],
)
def test_what_would_break_a_promise_stops_the_start(given: dict[str, str], named: str) -> None:
    """An event answered "failed" must not arrive later, a disk must not fill, a queue must hold a request."""
    with pytest.raises(ValueError, match=named):
        load(_LEAST | given)


def test_the_defaults_keep_the_promises() -> None:
    """Nothing but the broker's address is needed."""
    settings = load(_LEAST)

    assert settings.delivery_timeout_ms <= settings.answer_deadline_s * 1000
    assert settings.requests_max >= settings.threads
