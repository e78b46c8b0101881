"""Settings that are lists or switches: strict, and a slip stops the start with the variable's name."""

import pytest

from ingest.settings import load

NEEDED = {"INGEST_BOOTSTRAP_SERVERS": "localhost:9092"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INGEST_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("INGEST_TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
        ("INGEST_ALLOWED_ORIGINS", "www.example.com"),
        ("INGEST_ALLOWED_ORIGINS", "https://a.example, "),
        ("INGEST_IP_PRIVACY", "some"),
        ("INGEST_HONOUR_PRIVACY_SIGNALS", "maybe"),
        ("INGEST_LOG_REFUSALS", "yes please"),
    ],
)
def test_a_slip_names_its_variable(name: str, text: str) -> None:
    """The message starts with the variable that somebody has to correct."""
    with pytest.raises(ValueError, match=f"^{name}: "):
        load(NEEDED | {name: text})


def test_lists_and_switches_are_read() -> None:
    """What is right is taken as it is."""
    settings = load(
        NEEDED
        | {
            "INGEST_TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32",
            "INGEST_ALLOWED_ORIGINS": "https://www.example.com, http://localhost:3000",
            "INGEST_IP_PRIVACY": "none",
            "INGEST_HONOUR_PRIVACY_SIGNALS": "false",
        }
    )

    assert settings.trusted_proxies == "10.0.0.0/8,2001:db8::/32"
    assert settings.allowed_origins == "https://www.example.com, http://localhost:3000"
    assert (settings.ip_privacy, settings.honour_privacy_signals) == ("none", False)
