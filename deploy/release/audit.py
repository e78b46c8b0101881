"""Asks pip-audit whether a locked version has a known vulnerability: `python -m deploy.release.audit`.

Exit code: 0 every package was asked for, and none has one; 1 one has; 3 not audited: the data can't be reached, or they
do not have a vulnerability that is known to be there. PIP_AUDIT_VULNERABILITY_SERVICE and PIP_AUDIT_OSV_URL choose
another source than PyPI.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from deploy.release.lock import SERVICES, lock_path

PROBE: Final = "pyyaml==3.12"
"""It runs code from a document (CVE-2017-18342, fixed in 2018): data without it are no data."""
_TIMEOUT_S: Final = 600.0
_SAID_MAX: Final = 200


class Verdict(IntEnum):
    """What is known of a list of packages; the value is the exit code."""

    CLEAN = 0
    VULNERABLE = 1
    NOT_AUDITED = 3


@dataclass(frozen=True, slots=True)
class Audit:
    """What pip-audit has said of one list: how many packages were asked for, and sentences that say what is wrong."""

    verdict: Verdict
    packages: int = 0
    says: Sequence[str] = field(default=())


def main() -> None:
    """Audit both lock files; exit with the worst verdict."""
    probe = _probe()
    if probe.verdict is not Verdict.VULNERABLE:
        why = probe.says[0] if probe.says else f"the data know no vulnerability of {PROBE}, which has one"
        sys.stderr.write(f"NOT AUDITED: {why}\n")
        sys.exit(Verdict.NOT_AUDITED)
    audits = {service: audited(lock_path(service), "--require-hashes") for service in SERVICES}
    for service, audit in audits.items():
        for line in lines_of(f"deploy/locks/{service}.txt", audit):
            (sys.stdout if audit.verdict is Verdict.CLEAN else sys.stderr).write(f"{line}\n")
    verdicts = {audit.verdict for audit in audits.values()}
    sys.exit(min(verdicts - {Verdict.CLEAN}, default=Verdict.CLEAN))


def lines_of(name: str, audit: Audit) -> Iterator[str]:
    """Yield what to print of a lock file."""
    if audit.verdict is Verdict.CLEAN:
        yield f"audited: none of the {audit.packages} packages in {name} has a known vulnerability"
    for sentence in audit.says:
        begins = "VULNERABLE" if audit.verdict is Verdict.VULNERABLE else "NOT AUDITED"
        yield f"{begins}: {name}: {sentence}"


def _probe() -> Audit:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "probe.txt"
        path.write_text(f"{PROBE}\n", "utf-8")
        return audited(path, "--no-deps")


def audited(requirements: Path, *options: str) -> Audit:
    """Run pip-audit over a file of pinned packages."""
    command = [
        sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off", "--format", "json",
        "--desc", "off", *options, "-r", str(requirements),
    ]  # fmt: skip
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603  (ours)
    except subprocess.TimeoutExpired:
        return Audit(Verdict.NOT_AUDITED, says=[f"pip-audit took longer than {_TIMEOUT_S:.0f} s"])
    return read(run.stdout, run.stderr)


def read(output: str, errors: str) -> Audit:
    """Return what pip-audit's output means; its exit code is 1 for a vulnerability and for every failure alike."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, LookupError, TypeError):
        last = (errors.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return Audit(Verdict.NOT_AUDITED, says=[f"the vulnerability data can't be reached: {last[:_SAID_MAX]}"])
    asked = [package for package in packages if "skip_reason" not in package]
    if found := [_sentence(package, one) for package in asked for one in package["vulns"]]:
        return Audit(Verdict.VULNERABLE, len(asked), found)
    if skipped := [package["name"] for package in packages if "skip_reason" in package]:
        says = f"the vulnerability data do not have {', '.join(skipped)}"
        return Audit(Verdict.NOT_AUDITED, len(asked), [says[:_SAID_MAX]])
    if not asked:
        return Audit(Verdict.NOT_AUDITED, says=["there is no package in it"])
    return Audit(Verdict.CLEAN, len(asked))


def _sentence(package: dict[str, Any], one: dict[str, Any]) -> str:
    names = ", ".join([one["id"], *one.get("aliases", ())])
    fixed = one["fix_versions"]
    cure = f"fixed in {', '.join(fixed)}: renew the lock (docs/RELEASE.md)" if fixed else "no version fixes it yet"
    return f"{package['name']} {package['version']} has a known vulnerability, {names}; {cure}"


if __name__ == "__main__":
    main()
