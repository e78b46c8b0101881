"""Where the ingress listens: on either family of addresses."""

from pathlib import Path

import pytest

from tests.support.ingress import Ingress

_NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("host", "statuses"),
    [("::1", {"::1": 200}), ("::", {"::1": 200, "127.0.0.1": 200}), ("127.0.0.1", {"::1": 0, "127.0.0.1": 200})],
)
def test_an_ipv6_address_is_listened_on(tmp_path: Path, host: str, statuses: dict[str, int]) -> None:
    """By itself, or all addresses of both families; IPv4 alone is IPv4 alone."""
    collector = Ingress(tmp_path, _NOWHERE, host=host)
    collector.address = "127.0.0.1" if host == "127.0.0.1" else "::1"
    try:
        collector.start()
        for address, status in statuses.items():
            collector.address = address
            assert collector.status("/healthz") == status
    finally:
        collector.end()
