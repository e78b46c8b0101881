"""What `headrace doctor` makes of a machine's and a topic's facts."""

from collections.abc import Generator, Sequence
from errno import EACCES
from pathlib import Path, PosixPath
from resource import RLIM_INFINITY
from typing import Self

import pytest

from consumer.kafka.inspection import Copies, java_hash
from headrace.checks import (
    Check,
    Level,
    Promise,
    clock,
    kind_of_disk,
    machine_checks,
    open_files,
    secret_files,
    spool_disk,
    transport,
)
from headrace.checks_kafka import replication
from headrace.doctor import code_of


def _levels(checks: Sequence[Check]) -> set[Level]:
    return {check.level for check in checks}


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.HOLDS), (0o400, Level.HOLDS), (0o640, Level.NOTE), (0o644, Level.BROKEN)]
)
def test_a_secret_that_others_may_read_is_no_secret(tmp_path: Path, mode: int, level: Level) -> None:
    """A group may have to, in a container; everybody may not."""
    path = tmp_path / "password"
    path.write_text("x")
    path.chmod(mode)

    (check,) = secret_files({"CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(path), "CONSUMER_CLICKHOUSE_CA_FILE": "/none"})

    assert check.level is level
    assert (level is Level.HOLDS) is not bool(check.cure)


def test_a_secret_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    """It is named."""
    (check,) = secret_files({"INGEST_KAFKA_CONFIG_FILE": str(tmp_path / "none")})

    assert check.level is Level.UNKNOWN
    assert "INGEST_KAFKA_CONFIG_FILE" in check.says


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("ext4", Level.HOLDS),
        ("tmpfs", Level.BROKEN),
        ("nfs4", Level.BROKEN),
        ("overlay", Level.BROKEN),
        ("", Level.UNKNOWN),
    ],
)
def test_a_spool_must_be_on_a_local_disk(kind: str, level: Level, tmp_path: Path) -> None:
    """Not in memory, not on a shared file system, not in a container's layer."""
    assert kind_of_disk(tmp_path, kind).level is level


def test_a_spool_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    """This may be another machine."""
    assert _levels(list(spool_disk({}, tmp_path / "none"))) == {Level.UNKNOWN}


def test_a_disk_that_is_full_before_the_spool_is_weak(tmp_path: Path) -> None:
    """The bound says more than there is room for."""
    checks = list(spool_disk({"INGEST_SPOOL_BYTES_MAX": str(2**60)}, tmp_path))

    assert Level.WEAK in _levels(checks)


@pytest.mark.parametrize(
    ("limit", "level"), [(1024, Level.WEAK), (10_128, Level.HOLDS), (RLIM_INFINITY, Level.HOLDS), (10_127, Level.WEAK)]
)
def test_open_files_must_suffice_for_the_connections(limit: int, level: Level) -> None:
    """And for what else a process opens."""
    assert open_files(10_000, limit).level is level


@pytest.mark.parametrize(
    ("copies", "least", "levels"),
    [
        (Copies(3, 3), 2, {Level.HOLDS}),
        (Copies(3, 3), 1, {Level.WEAK}),
        (Copies(3, 3), 3, {Level.WEAK}),
        (Copies(1, 1), 1, {Level.WEAK}),
        (Copies(3, 2), 2, {Level.HOLDS, Level.WEAK}),
        (Copies(3, 1), 2, {Level.HOLDS, Level.BROKEN}),
        (Copies(3, 3), None, {Level.UNKNOWN}),
    ],
)
def test_copies_say_how_many_disks_may_be_lost(copies: Copies, least: int | None, levels: set[Level]) -> None:
    """Three, of which two have an event before it is acknowledged."""
    checks = list(replication("events", copies, least, "kafka:9092"))

    assert _levels(checks) == levels
    assert all(check.cure for check in checks if check.level in (Level.WEAK, Level.BROKEN))


@pytest.mark.parametrize(
    ("ahead_s", "within_s", "level"),
    [(0.2, 0.1, Level.HOLDS), (-3.0, 0.1, Level.WEAK), (31.0, 0.1, Level.BROKEN), (1.5, 1.0, Level.HOLDS)],
)
def test_clocks_may_differ_by_less_than_the_claims_allow(ahead_s: float, within_s: float, level: Level) -> None:
    """What the measurement itself can't tell is no fault of the clock."""
    assert clock("ClickHouse", ahead_s, within_s, 30.0).level is level


@pytest.mark.parametrize(
    ("host", "has_tls", "level"),
    [
        ("kafka", True, Level.HOLDS),
        ("kafka", False, Level.WEAK),
        ("127.0.0.1", False, Level.NOTE),
        ("::1", False, Level.NOTE),
    ],
)
def test_what_leaves_the_machine_needs_tls(host: str, level: Level, *, has_tls: bool) -> None:
    """On the machine itself it does not."""
    assert transport("Kafka", host, has_tls=has_tls, setting="security.protocol").level is level


@pytest.mark.parametrize(
    ("levels", "is_strict", "code"),
    [
        ([Level.HOLDS, Level.NOTE], True, 0),
        ([Level.WEAK], False, 0),
        ([Level.WEAK], True, 1),
        ([Level.UNKNOWN, Level.WEAK], False, 3),
        ([Level.UNKNOWN, Level.BROKEN], False, 1),
    ],
)
def test_the_exit_code_says_the_worst(levels: list[Level], code: int, *, is_strict: bool) -> None:
    """What is broken counts more than what is unknown."""
    assert code_of([Check(Promise.ONCE, level, "") for level in levels], is_strict=is_strict) == code


def test_a_group_falls_into_the_partition_that_java_says() -> None:
    """By the value that Java's own documentation derives: "Ab" is 65 * 31 + 98; a long name wraps at 32 bits."""
    assert java_hash("Ab") == 65 * 31 + 98
    assert java_hash("polygenelubricants") == 0x8000_0000


class Directory(PosixPath):
    """A spool's directory, in which one call fails, or a file is deleted while it is listed."""

    fails = ""

    def is_dir(self) -> bool:
        """Tell it, or fail."""
        self._fail("is_dir")
        return super().is_dir()

    def iterdir(self) -> Generator[Self, None, None]:
        """List it, with a file that is gone, or fail."""
        self._fail("iterdir")
        yield from super().iterdir()
        yield self / "gone.db"

    def _fail(self, name: str) -> None:
        if name == self.fails:
            raise PermissionError(EACCES, "Permission denied", str(self))


@pytest.mark.parametrize("call", ["is_dir", "iterdir"])
def test_a_spool_that_may_not_be_looked_at_is_unknown(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, or behind one that may not be entered: that is no answer, and no traceback."""
    monkeypatch.setattr(Directory, "fails", call)

    checks = list(spool_disk({}, Directory(tmp_path)))

    assert checks[-1].level is Level.UNKNOWN
    assert "Permission denied" in checks[-1].says


def test_a_spool_file_that_is_drained_meanwhile_has_no_size(tmp_path: Path) -> None:
    """It was listed, and is gone."""
    assert Level.UNKNOWN not in _levels(list(spool_disk({}, Directory(tmp_path))))


@pytest.mark.parametrize("name", ["INGEST_CONNECTIONS_MAX", "INGEST_SPOOL_BYTES_MAX", "INGEST_SPOOL_FREE_BYTES_MIN"])
@pytest.mark.parametrize("text", ["abc", "1.5", "-1", "9" * 5000])
def test_a_setting_that_is_no_number_is_named(tmp_path: Path, name: str, text: str) -> None:
    """An operator has many."""
    with pytest.raises(ValueError, match=f"^{name}: must be a whole number"):
        list(machine_checks({name: text}, tmp_path))
