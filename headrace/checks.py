"""What `headrace doctor` finds: a level, a sentence and a cure for each guarantee; and the checks of this machine."""

import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from re import fullmatch
from typing import Final

from schemas.transport.access import is_loopback

_OPEN_FILES_RESERVED: Final = 128
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FOR_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
_SHARED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "glusterfs", "9p", "efs"})
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_OF_CONTAINER: Final = frozenset({"overlay", "aufs"})
_SECRETS: Final = ("_PASSWORD_FILE", "_KEY_FILE", "_KAFKA_CONFIG_FILE", "_CLIENTS_FILE")
_PACKAGES: Final = ("confluent-kafka", "clickhouse-connect", "fastavro", "gunicorn", "flask")


class Promise(StrEnum):
    """What a check is about."""

    DURABLE = "a 201 is durable"
    ONCE = "every record once"
    OUTAGE = "outages are bridged"
    PRIVATE = "traffic and secrets are private"
    CLOCKS = "times are true"
    VERSIONS = "versions"


class Level(StrEnum):
    """How a guarantee stands."""

    HOLDS = "holds"
    NOTE = "note"
    WEAK = "weak"  # it holds until one more thing fails
    BROKEN = "broken"  # it does not hold
    UNKNOWN = "unknown"  # it could not be asked


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what it is about, how it stands, a sentence, and what to do; "" when nothing is."""

    promise: Promise
    level: Level
    says: str
    cure: str = ""


def machine_checks(variables: Mapping[str, str], spool_dir: Path) -> Iterator[Check]:
    """Yield what this machine says: versions, open files, files of secrets, and the spool's disk.

    Raises:
        ValueError: names the variable that is wrong.
    """
    yield Check(Promise.VERSIONS, Level.NOTE, _versions())
    connections = _number(variables, "INGEST_CONNECTIONS_MAX", 10_000)
    yield open_files(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield from secret_files(variables)
    yield from spool_disk(variables, spool_dir)


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name) or str(default)
    if not fullmatch("[0-9]{1,30}", text):
        raise ValueError(f"{name}: must be a whole number, not {text!r}")
    return int(text)


def _versions() -> str:
    found = [f"headrace {version('headrace')}", f"Python {sys.version.split()[0]}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def open_files(connections: int, hard_limit: int) -> Check:
    """Return whether a process may open as many files as the ingress is allowed connections."""
    needed = connections + _OPEN_FILES_RESERVED
    if hard_limit == resource.RLIM_INFINITY or hard_limit >= needed:
        return Check(Promise.OUTAGE, Level.HOLDS, f"a process may open {_limit(hard_limit)} files, {needed} are needed")
    cure = f"raise it (LimitNOFILE={needed}, --ulimit nofile={needed}), or lower INGEST_CONNECTIONS_MAX"
    accepted = max(1, hard_limit - _OPEN_FILES_RESERVED)
    said = f"a process may open {hard_limit} files: the ingress accepts {accepted} connections"
    return Check(Promise.OUTAGE, Level.WEAK, f"{said}, not {connections}", cure)


def _limit(number: int) -> str:
    return "any number of" if number == resource.RLIM_INFINITY else str(number)


def secret_files(variables: Mapping[str, str]) -> Iterator[Check]:
    """Yield what is wrong with the files of passwords and keys, or that nothing is."""
    named = {name: path for name, path in sorted(variables.items()) if name.endswith(_SECRETS) and path}
    faults = [check for name, path in named.items() if (check := _secret_file(name, path))]
    yield from faults
    if named and not faults:
        yield Check(Promise.PRIVATE, Level.HOLDS, f"nobody else may read the files of secrets ({len(named)})")


def _secret_file(name: str, path: str) -> Check | None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return Check(
            Promise.PRIVATE, Level.UNKNOWN, f"{name}: {path}: {error.strerror}", f"set {name} to a file that is there"
        )
    if mode & _FOR_OTHERS:
        level = Level.BROKEN
    elif mode & _OTHERS:
        level = Level.NOTE  # a secret of Kubernetes is readable for its group
    else:
        return None
    shown = stat.filemode(mode)
    return Check(
        Promise.PRIVATE, level, f"{name}: {path} is {shown}: others may read or change it", f"run `chmod 600 {path}`"
    )


def spool_disk(variables: Mapping[str, str], path: Path) -> Iterator[Check]:
    """Yield whether the spool's directory is there, outlives the process, and has room."""
    try:
        yield from _spool_disk(variables, path)
    except OSError as error:
        says = f"the spool directory {path} can't be looked at: {error.strerror or error}"
        yield Check(Promise.OUTAGE, Level.UNKNOWN, says, "run this as the ingress's user")


def _spool_disk(variables: Mapping[str, str], path: Path) -> Iterator[Check]:
    if not path.is_dir():
        says = f"there is no spool directory {path} on this machine"
        cure = "run this where the ingress runs, or set INGEST_SPOOL_DIR"
        yield Check(Promise.OUTAGE, Level.UNKNOWN, says, cure)
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield Check(
            Promise.OUTAGE,
            Level.UNKNOWN,
            f"{path} may not be written to by this user",
            "run this as the ingress's user",
        )
    yield kind_of_disk(path, _file_system(path, Path("/proc/mounts")))
    bound = _number(variables, "INGEST_SPOOL_BYTES_MAX", 2 * 1024**3)
    spare = _number(variables, "INGEST_SPOOL_FREE_BYTES_MIN", 256 * 1024**2)
    free = shutil.disk_usage(path).free
    held = sum(map(_size_bytes, path.iterdir()))
    room = f"{_mib(free)} free at {path}, the spool may grow to {_mib(bound)} and leaves {_mib(spare)}"
    if free + held >= bound + spare:
        yield Check(Promise.OUTAGE, Level.HOLDS, room)
    else:
        yield Check(
            Promise.OUTAGE,
            Level.WEAK,
            f"{room}: it is full before its bound",
            "enlarge the disk, or lower INGEST_SPOOL_BYTES_MAX",
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a drained file may be deleted at any time
        return 0


def kind_of_disk(path: Path, kind: str) -> Check:
    """Return whether a spool on this kind of file system survives what it must."""
    if kind in _IN_MEMORY:
        says = f"the spool is in memory ({kind} at {path}): a restart loses events that were answered 201"
        return Check(Promise.DURABLE, Level.BROKEN, says, "put INGEST_SPOOL_DIR on a disk")
    if kind in _SHARED:
        says = f"the spool is on {kind} at {path}: its locks and its log need a local disk"
        return Check(Promise.DURABLE, Level.BROKEN, says, "put INGEST_SPOOL_DIR on a block device")
    if kind in _OF_CONTAINER:
        says = f"the spool is in the container's own layer ({kind} at {path}): it goes with the container"
        return Check(Promise.DURABLE, Level.BROKEN, says, "mount a volume at INGEST_SPOOL_DIR")
    if not kind:
        return Check(Promise.DURABLE, Level.UNKNOWN, f"nobody says which file system {path} is on")
    return Check(Promise.DURABLE, Level.HOLDS, f"the spool is on a disk ({kind} at {path})" + _own_disk(path))


def _own_disk(path: Path) -> str:
    try:
        is_own = path.stat().st_dev != Path("/").stat().st_dev
    except OSError:
        return ""
    return ", on a separate volume" if is_own else ", which it shares with the system"


def _file_system(path: Path, mounts: Path) -> str:
    """Return the type of the file system that a path is on; "" when that is not known."""
    try:
        lines = [line.split() for line in mounts.read_text("utf-8", "replace").splitlines()]
        real = path.resolve(strict=True)
    except OSError:
        return ""
    above = [(len(fields[1]), number, fields[2]) for number, fields in enumerate(lines) if _is_below(real, fields[1])]
    return max(above)[2] if above else ""


def _is_below(path: Path, mount: str) -> bool:
    return path.is_relative_to(mount.replace("\\040", " "))


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"


def transport(name: str, host: str, *, has_tls: bool, setting: str) -> Check:
    """Return whether somebody on the way could read what is sent to a server."""
    if has_tls:
        return Check(Promise.PRIVATE, Level.HOLDS, f"{name} is reached over TLS ({host})")
    if is_loopback(host):
        return Check(Promise.PRIVATE, Level.NOTE, f"{name} is reached without TLS, on this machine ({host})")
    says = f"{name} is reached without TLS ({host}): anybody on the network path can read and change events"
    return Check(Promise.PRIVATE, Level.WEAK, says, f"use TLS: {setting}")


def clock(name: str, ahead_s: float, within_s: float, allowed_s: float) -> Check:
    """Return how a server's clock agrees with this machine's; `allowed_s` is what tables and windows bear."""
    side = "ahead of" if ahead_s >= 0 else "behind"
    shown = f"{name}'s clock is {abs(ahead_s):.3f} s {side} this machine's, within {within_s:.3f} s"
    apart_s = max(0.0, abs(ahead_s) - within_s)
    if apart_s > allowed_s:
        says = f"{shown}: more than the {allowed_s:g} s that `complete_until` allows for"
        return Check(Promise.CLOCKS, Level.BROKEN, says, "repair NTP there or here, or raise CONSUMER_ARRIVAL_S_MAX")
    if apart_s > _APART_S:
        return Check(Promise.CLOCKS, Level.WEAK, shown, "repair NTP there or here")
    return Check(Promise.CLOCKS, Level.HOLDS, shown)


_APART_S: Final = 1.0
