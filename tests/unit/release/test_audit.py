"""What pip-audit says of the lock files, and what it does not say."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.release import audit
from deploy.release.audit import Audit, Verdict, lines_of, read
from tests.support.ports import free_port

_HOLE: Final = {
    "id": "PYSEC-2018-49",
    "aliases": ["CVE-2017-18342"],
    "affected": [
        {
            "package": {"name": "pyyaml", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "4.1"}]}],
        }
    ],
}
_HASH: Final = "0" * 64


class Source:
    """A service of vulnerabilities that knows one, or none."""

    def __init__(self) -> None:
        self.vulnerable = {"pyyaml"}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
                outer.asked.append(name)
                body = json.dumps({"vulns": [_HOLE]} if name in outer.vulnerable else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Source]:
    """A service of this test that pip-audit asks."""
    made = Source()
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{made.server.server_port}/v1/query")
    monkeypatch.setattr(audit, "SERVICES", ("consumer",))
    monkeypatch.setattr(audit, "lock_path", lambda service: tmp_path / f"{service}.txt")
    with made.server:
        threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.server.shutdown()


def _run(capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        audit.main()
    return end.value.code, *capsys.readouterr()


def test_a_locked_version_with_a_vulnerability_is_named(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its number, the file, and the version that fixes it."""
    (tmp_path / "consumer.txt").write_text(f"flask==3.1.0 --hash=sha256:{_HASH}\npyyaml==3.13 --hash=sha256:{_HASH}\n")

    code, output, errors = _run(capsys)

    assert code == 1
    assert not output
    assert errors == (
        "VULNERABLE: deploy/locks/consumer.txt: pyyaml 3.13 has a known vulnerability, PYSEC-2018-49, CVE-2017-18342;"
        " fixed in 4.1: renew the lock (docs/RELEASE.md)\n"
    )
    assert sorted(source.asked) == ["flask", "pyyaml", "pyyaml"]


def test_data_without_a_vulnerability_that_is_known_are_no_data(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror that answers, and has none, would call everything clean."""
    source.vulnerable.clear()

    code, output, errors = _run(capsys)

    assert (code, output) == (3, "")
    assert errors == "NOT AUDITED: the data know no vulnerability of pyyaml==3.12, which has one\n"
    assert source.asked == ["pyyaml"]


def test_data_that_can_not_be_reached_are_not_clean(
    source: Source, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens there."""
    assert source.asked == []
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{free_port()}/v1/query")

    code, output, errors = _run(capsys)

    assert (code, output) == (3, "")
    assert errors.startswith("NOT AUDITED: the vulnerability data can't be reached: ")
    assert errors.count("\n") == 1


def _package(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **fields}


_SKIPPED: Final = {"name": "b", "skip_reason": "not found"}
_BAD: Final = _package("b", vulns=[{"id": "X-1", "fix_versions": []}])


@pytest.mark.parametrize(
    ("packages", "verdict", "said"),
    [
        ([_package("a"), _package("b")], Verdict.CLEAN, ""),
        ([_package("a"), _SKIPPED], Verdict.NOT_AUDITED, "do not have b"),
        (
            [_SKIPPED, {**_BAD, "name": "c"}],
            Verdict.VULNERABLE,
            "c 1.0 has a known vulnerability, X-1; no version",
        ),
        ([], Verdict.NOT_AUDITED, "no package"),
    ],
)
def test_only_packages_that_were_all_asked_for_are_clean(
    packages: list[dict[str, Any]], verdict: Verdict, said: str
) -> None:
    """pip-audit itself leaves out what its source does not know, and succeeds."""
    found = read(json.dumps({"dependencies": packages}), "")

    assert found.verdict is verdict
    assert said in " ".join(found.says)


@pytest.mark.parametrize("output", ["", "Traceback", "[]", "null", '{"fixes": []}'])
def test_what_is_no_answer_is_not_clean(output: str) -> None:
    """Its last line says why."""
    assert read(output, "Traceback\nOSError: no route\n") == Audit(
        Verdict.NOT_AUDITED, says=["the vulnerability data can't be reached: OSError: no route"]
    )


def test_each_line_says_which_file() -> None:
    """A log of CI has both."""
    (line,) = lines_of("deploy/locks/ingest.txt", Audit(Verdict.NOT_AUDITED, 0, ["why"]))

    assert line == "NOT AUDITED: deploy/locks/ingest.txt: why"
    assert list(lines_of("deploy/locks/ingest.txt", Audit(Verdict.CLEAN, 3))) == [
        "audited: none of the 3 packages in deploy/locks/ingest.txt has a known vulnerability"
    ]
