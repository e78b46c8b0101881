"""What every test may ask for: the brokers and engines of tests/support, hypothesis' profiles, and two at a time."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.support.fixtures_clickhouse",
    "tests.support.fixtures_consumer",
    "tests.support.fixtures_group",
    "tests.support.fixtures_kafka",
]

# `make check` takes a slice; HYPOTHESIS_PROFILE=long looks as far as the promises reach.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_ROOT: Final = Path(__file__).parent
_ALONE: Final = ("fault", "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that load and hurt things in one process, one after another, and each other file in one.

    The former take the longest, so they begin.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group("alone" if _is_alone(item) else str(item.path)))
    items.sort(key=lambda item: not _is_alone(item))


def _is_alone(item: pytest.Item) -> bool:
    return item.path.relative_to(_ROOT).parts[0] in _ALONE


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> Iterator[None]:
    """Print what a test has to say, whichever process it ran in."""
    status = yield
    says = [text for name, text in getattr(report, "user_properties", ()) if name == "says"]
    if says and getattr(report, "when", "") == "call":
        print("".join(f"\n  {report.nodeid.rpartition('::')[2]}: {text}" for text in says))
    return status
