"""A worker's settings: a typo, a bound that is not kept or a contradiction stops the start by name."""

import pytest

from consumer.settings import host_of, load

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
        ("HTTP_PORT", "70000"),
        ("LOG_LEVEL", "verbose"),
        ("INSERT_TIMEOUT_S", "300"),
        ("STALL_S", "60"),
        ("BATCH_AGE_S_MAX", "inf"),
        ("BATCH_AGE_S_MAX", "nan"),
        ("DRAIN_S_MAX", "1e300"),
        ("AUDIT_EVERY_S", "nan"),
        ("AUDIT_EVERY_S", "inf"),
        ("SESSION_TIMEOUT_MS", "300001"),
        ("SESSION_TIMEOUT_MS", "20000000000"),
        ("HEARTBEAT_INTERVAL_MS", "10001"),
        ("DEAD_LETTER_TOPIC", "events"),
        ("CLICKHOUSE_URL", "http://"),
        ("CLICKHOUSE_URL", "http://:8123"),
        ("CLICKHOUSE_URL", "http://127.0.0.1:99999"),
        ("CLICKHOUSE_URL", "http://127.0.0.1:0"),
        ("CLICKHOUSE_URL", "http://[::1"),
        ("CLICKHOUSE_URL", "http://click house"),
        ("SCHEMA_REGISTRY_URL", "::junk"),
        ("SCHEMA_REGISTRY_URL", "http://a:8081,http://b:x"),
    ],
)
def test_what_can_not_be_meant_stops_the_start(name: str, text: str) -> None:
    """The sentence begins with the variable's name."""
    with pytest.raises(ValueError, match=rf"^CONSUMER_{name}\b"):
        load(_LEAST | {f"CONSUMER_{name}": text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CLICKHOUSE_URL", "https://user:a,b@[::1]:8443"),
        ("CLICKHOUSE_URL", "http://proxy/clickhouse"),
        ("SCHEMA_REGISTRY_URL", "http://user:p,w@a:8081,http://b"),
        ("SCHEMA_REGISTRY_URL", ""),
        ("AUDIT_EVERY_S", "0"),
    ],
)
def test_what_can_be_meant_is_taken(name: str, text: str) -> None:
    """A rule that is too strict would stop a good start."""
    assert str(getattr(load(_LEAST | {f"CONSUMER_{name}": text}), name.lower())).startswith(text)


def test_what_the_broker_decides_is_not_compared() -> None:
    """With KIP-848 the session is the broker's."""
    told = {"CONSUMER_GROUP_PROTOCOL": "consumer", "CONSUMER_SESSION_TIMEOUT_MS": "1000"}

    assert load(_LEAST | told).session_timeout_ms == 1000
    with pytest.raises(ValueError, match="HEARTBEAT_INTERVAL_MS"):
        load(_LEAST | told | {"CONSUMER_GROUP_PROTOCOL": "classic"})


def test_no_sentence_shows_a_password() -> None:
    """URLs may hold one."""
    with pytest.raises(ValueError, match="SCHEMA_REGISTRY_URL") as refused:
        load(_LEAST | {"CONSUMER_SCHEMA_REGISTRY_URL": "http://user:secret@host:99999"})
    assert "secret" not in str(refused.value)
    assert host_of("https://user:secret@host:8443/x") == "host:8443"


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
