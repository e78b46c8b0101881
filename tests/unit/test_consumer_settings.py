"""A worker's settings: a typo, a bound that is not kept or a contradiction stops the start by name."""

import pytest

from consumer.settings import load

_LEAST = {"CONSUMER_BOOTSTRAP_SERVERS": "127.0.0.1:1", "CONSUMER_CLICKHOUSE_URL": "http://127.0.0.1:2"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BOOTSTRAP_SERVER", "127.0.0.1:1"),
        ("BATCH_ROWS_MAX", "0"),
        ("BATCH_ROWS_MAX", "1000001"),
        ("BATCH_AGE_S_MAX", "soon"),
        ("GROUP_PROTOCOL", "kip848"),
        ("ASSIGNOR", "roundrobin"),
        ("CLICKHOUSE_URL", "clickhouse:8123"),
        ("CLICKHOUSE_URL", "http://clickhouse:8123?wait=1"),
        ("CLICKHOUSE_DATABASE", "my-database"),
        ("POISON_SHARE_MAX", "1.1"),
        ("HTTP_PORT", "70000"),
        ("LOG_LEVEL", "verbose"),
        ("INSERT_TIMEOUT_S", "300"),
        ("STALL_S", "60"),
    ],
)
def test_what_can_not_be_meant_stops_the_start(name: str, text: str) -> None:
    """The sentence begins with the variable's name."""
    with pytest.raises(ValueError, match=rf"^CONSUMER_{name}\b"):
        load(_LEAST | {f"CONSUMER_{name}": text})


@pytest.mark.parametrize("name", sorted(_LEAST))
def test_what_has_no_default_must_be_given(name: str) -> None:
    """Where the servers are, nobody can guess."""
    with pytest.raises(ValueError, match=name):
        load({key: text for key, text in _LEAST.items() if key != name})


def test_other_programs_variables_are_none_of_its_business() -> None:
    """Only CONSUMER_ variables are read; the least that is needed makes a worker."""
    settings = load(_LEAST | {"INGEST_PORT": "x", "PATH": "/bin"})

    assert settings.clickhouse_url == "http://127.0.0.1:2"
    assert settings.insert_timeout_s * 1000 < settings.max_poll_interval_ms
