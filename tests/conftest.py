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
    "tests.support.operator",
]

# The default takes the same slice each time; HYPOTHESIS_PROFILE=long looks elsewhere each time, as far as the promises
# reach.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_ROOT: Final = Path(__file__).parent
_HEAVY: Final = ("fault", "system")
IS_SOAK: Final = os.environ.get("HEADRACE_SOAK") == "1"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what needs patience to `make soak`; order the rest.

    The tests that load and hurt workers stay in one process, one after another, those that load and hurt the ingress
    in another, and each other file in one. The former take the longest, so they begin.
    """
    patient = [item for item in items if not IS_SOAK and _is_for_soak_alone(item)]
    if patient:
        config.hook.pytest_deselected(items=patient)
        items[:] = [item for item in items if item not in patient]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_process_of(item)))
    items.sort(key=lambda item: not _is_heavy(item))


def _is_for_soak_alone(item: pytest.Item) -> bool:
    return any(mark.kwargs.get("only") for mark in item.iter_markers("soak"))


def _process_of(item: pytest.Item) -> str:
    if not _is_heavy(item):
        return str(item.path)
    return "workers" if item.path.name.startswith("test_worker_") else "ingress"


def _is_heavy(item: pytest.Item) -> bool:
    return item.path.relative_to(_ROOT).parts[0] in _HEAVY


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> Iterator[None]:
    """Print what a test has to say, whichever process it ran in."""
    status = yield
    says = [text for name, text in getattr(report, "user_properties", ()) if name == "says"]
    if says and getattr(report, "when", "") == "call":
        print("".join(f"\n  {report.nodeid.rpartition('::')[2]}: {text}" for text in says))
    return status
