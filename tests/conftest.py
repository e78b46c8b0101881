"""What every test may ask for: the brokers and engines of tests/support, hypothesis' profiles, and four at a time."""

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.in_memory import has_room, new_directory
from tests.support.member import Member

pytest_plugins = [
    "tests.support.fixtures_clickhouse",
    "tests.support.fixtures_consumer",
    "tests.support.fixtures_group",
    "tests.support.fixtures_kafka",
    "tests.support.fixtures_shards",
    "tests.support.operator",
]

# The default takes the same slice each time; HYPOTHESIS_PROFILE=long looks elsewhere each time, as far as the promises
# reach.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_INGRESS: Final = "tests/fault/"
_WORKERS: Final = "tests/fault/test_worker_"
_PIPELINE: Final = "tests/system/"
_FOURTH: Final = "gw3"
_NICE: Final = 5
_IN_MEMORY: Final = pytest.StashKey[Path]()
IS_SOAK: Final = os.environ.get("HEADRACE_SOAK") == "1"
SOAK_ONLY: Final = pytest.mark.soak(only=True)
CLUSTER: Final = "HEADRACE_TEST_CLICKHOUSE_CLUSTER"
"""The variable that names a cluster of Replicated tables."""


def cases(every: Collection[Any], slice_of: Collection[Any]) -> list[Any]:
    """Return parameters, of which `make test` takes a slice; a tuple is a case of several arguments."""
    assert set(slice_of) <= set(every), "a slice has what is no case"
    made = []
    for each in every:
        values = each if isinstance(each, tuple) else (each,)
        made.append(pytest.param(*values, marks=() if each in slice_of else SOAK_ONLY))
    return made


# A shell that has read .headrace/env has the settings of the pipeline that `make run` started.
for _name in [name for name in os.environ if name.startswith(("INGEST_", "CONSUMER_"))]:
    del os.environ[_name]

collect_ignore = [] if CLUSTER in os.environ else ["integration/test_replicated_cluster.py"]


# What is imported and collected stays for ever: a search for garbage through it is a fifth of the collection's time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Give the fourth process a lower priority, because tests of the others have deadlines; keep files in memory."""
    if os.environ.get("PYTEST_XDIST_WORKER") == _FOURTH:
        os.nice(_NICE)
    if getattr(config.option, "numprocesses", None) and "TMPDIR" not in os.environ and has_room():
        made = config.stash[_IN_MEMORY] = new_directory()
        os.environ["TMPDIR"] = tempfile.tempdir = str(made)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give the memory back. After a failure the files stay, to be looked at."""
    if _IN_MEMORY in session.config.stash:
        del os.environ["TMPDIR"]
        tempfile.tempdir = None
        if exitstatus == pytest.ExitCode.OK:
            shutil.rmtree(session.config.stash[_IN_MEMORY], ignore_errors=True)


def pytest_collection_finish() -> None:
    """Search for garbage from now on, and only in what tests make."""
    gc.freeze()
    gc.enable()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name compressed bytes by their argument: gzip's hold the time, and every process must collect the same names."""
    return argname if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what needs patience to `make soak`; order the groups, behind any shuffling."""
    patient = [item for item in items if not IS_SOAK and _is_for_soak_alone(item)]
    if patient:
        config.hook.pytest_deselected(items=patient)
        items[:] = [item for item in items if item not in patient]
    items.sort(key=_rank)


class LoggerState(NamedTuple):
    """What a logger passes on, and where to."""

    level: int
    propagates: bool
    is_disabled: bool
    filters: list[Any]
    handlers: list[logging.Handler]

    @classmethod
    def of(cls, logger: logging.Logger) -> Self:
        """Return how a logger is now."""
        return cls(logger.level, logger.propagate, logger.disabled, logger.filters[:], logger.handlers[:])

    def give_back(self, logger: logging.Logger) -> None:
        """Let a logger be as it was; of its handlers only new ones go, because pytest's own come and go meanwhile."""
        if logger.level != self.level:
            logger.setLevel(self.level)  # makes all 150 loggers forget what they have remembered
        logger.propagate, logger.disabled, logger.filters[:] = self.propagates, self.is_disabled, self.filters
        for handler in [added for added in logger.handlers if added not in self.handlers]:
            logger.removeHandler(handler)


_LOGGERS: Final = pytest.StashKey[dict[str, LoggerState]]()
_NEW: Final = LoggerState(logging.NOTSET, propagates=True, is_disabled=False, filters=[], handlers=[])


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    return {"": logging.root} | {name: item for name, item in known.items() if isinstance(item, logging.Logger)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note how the process logs before a test."""
    item.stash[_LOGGERS] = {name: LoggerState.of(logger) for name, logger in _loggers().items()}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let the process log as before: code under test sets levels, filters and handlers of the whole process."""
    for name, logger in _loggers().items():
        item.stash[_LOGGERS].get(name, _NEW).give_back(logger)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of a test that failed what its workers were doing."""
    report = yield
    if call.when == "call" and report.failed:
        report.sections += [(f"worker {member.process.pid}", member.state()) for member in Member.living()]
    return report


def _is_for_soak_alone(item: pytest.Item) -> bool:
    return any(mark.kwargs.get("only") for mark in item.iter_markers("soak"))


def _rank(item: pytest.Item) -> int:
    """Order groups by how long they take, roughly: the longest first, so that all processes end together."""
    if group_of(item.nodeid) == _INGRESS:
        return 0
    order = (_WORKERS, _PIPELINE, "tests/integration/")
    return next((rank for rank, start in enumerate(order, 1) if item.nodeid.startswith(start)), len(order) + 1)


def group_of(nodeid: str) -> str:
    """Return the group of tests that run one after another: a whole kind, or a file."""
    path = nodeid.partition("::")[0]
    if path.startswith(_WORKERS):
        return path
    return next((kind for kind in (_INGRESS, _PIPELINE) if path.startswith(kind)), path)


class OneAfterAnother(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps together, in one process, what would hurt each other in two.

    The tests that load the ingress and measure its answers are one group, those of the whole pipeline share one, and
    each file of the rest is a separate group: each process has brokers and a ClickHouse that nobody else hurts. The
    groups of pytest-xdist's own `loadgroup` are silently none with pytest 9.2.

    The fourth process begins at the other end of the queue: first with unit tests, which have the processor to
    themselves when the other three wait.
    """

    def _assign_work_unit(self, node: Any) -> None:
        if node.gateway.id == _FOURTH:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneAfterAnother:
    """Return the scheduler of `make test`."""
    return OneAfterAnother(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> Iterator[None]:
    """Print what a test has to say, whichever process it ran in."""
    status = yield
    says = [text for name, text in getattr(report, "user_properties", ()) if name == "says"]
    if says and getattr(report, "when", "") == "call":
        print("".join(f"\n  {report.nodeid.rpartition('::')[2]}: {text}" for text in says))
    return status
