"""A worker's settings: a typo, a bound that is not kept or a contradiction stops the start by name."""

import pytest

from consumer.parts import early_s
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
        ("CLICKHOUSE_URL", ""),
        ("CLICKHOUSE_URL", "http://a:1,b:2"),
        ("CLICKHOUSE_URL", "https://clickhouse/path#part"),
        ("CLICKHOUSE_URL", "https://user@clickhouse:8443"),
        ("CLICKHOUSE_URL", "https://:secret@clickhouse:8443"),
        ("CLICKHOUSE_USER", "a:b"),
        ("CLICKHOUSE_CA_FILE", "/a/file"),
        ("CLICKHOUSE_CERTIFICATE_FILE", "/a/file"),
        ("CLICKHOUSE_KEY_FILE", "/a/file"),
        ("SCHEMA_REGISTRY_URL", "https://user:secret@a:8081"),
        ("SCHEMA_REGISTRY_URL", "http://a:8081, http://b"),
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
        ("CLICKHOUSE_URL", "https://[::1]:8443"),
        ("CLICKHOUSE_URL", "http://proxy/clickhouse/"),
        ("CLICKHOUSE_URL", "HTTPS://clickhouse:9440"),
        ("SCHEMA_REGISTRY_URL", "http://a:8081/registry,https://b"),
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


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("CLICKHOUSE", "http://user:secret@host:8123"),
        ("CLICKHOUSE", "https://secret@host"),
        ("SCHEMA_REGISTRY", "http://user:secret@host:99999"),
        ("SCHEMA_REGISTRY", "http://a:1,http://user:secret@b"),
        ("SCHEMA_REGISTRY", "user:secret@host:8081"),
    ],
)
def test_a_login_in_a_url_is_refused_and_not_shown(name: str, url: str) -> None:
    """Secrets stand in files, never in the environment; the sentence says which settings are for them."""
    with pytest.raises(ValueError, match=f"CONSUMER_{name}_URL: must") as refused:
        load(_LEAST | {f"CONSUMER_{name}_URL": url})

    assert "secret" not in str(refused.value)
    if "99999" not in url and "://" in url:
        assert f"CONSUMER_{name}_USER and CONSUMER_{name}_PASSWORD_FILE" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("http://clickhouse:8123", False),
        ("http://10.0.0.1:8443", False),
        ("http://127.1:8123", False),
        ("http://localhost.example.org:8123", False),
        ("http://[2001:db8::1]:8123", False),
        ("https://clickhouse:8123", True),
        ("http://localhost:8123", True),
        ("http://127.0.0.2:8123", True),
        ("http://[::1]:8123", True),
    ],
)
def test_no_password_leaves_the_machine_without_tls(url: str, is_safe: bool) -> None:  # noqa: FBT001  (a row's column)
    """Unless a setting allows it; the scheme decides, not the port."""
    told = _LEAST | {"CONSUMER_CLICKHOUSE_URL": url, "CONSUMER_CLICKHOUSE_PASSWORD_FILE": "/a/file"}
    if not is_safe:
        with pytest.raises(ValueError, match=r"^CONSUMER_CLICKHOUSE_URL: .*CONSUMER_ALLOW_PLAINTEXT_LOGINS=true"):
            load(told)
        told["CONSUMER_ALLOW_PLAINTEXT_LOGINS"] = "true"

    assert load(told).clickhouse_url == url
    assert load(_LEAST | {"CONSUMER_CLICKHOUSE_URL": url}).clickhouse_url == url


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


@pytest.mark.parametrize(
    ("partitions", "per_s", "age_s"), [(5, 10.0, 0.5), (1, 10.0, 0.25), (20, 10.0, 1.0), (5, 0.0, 1.0), (5, 2.0, 1.0)]
)
def test_batches_close_early_as_far_as_the_inserts_per_second_allow(
    partitions: int, per_s: float, age_s: float
) -> None:
    """All workers together: each partition has one insert at a time."""
    settings = load(_LEAST | {"CONSUMER_EARLY_INSERTS_PER_S_MAX": str(per_s)})

    assert early_s(settings, partitions) == age_s
