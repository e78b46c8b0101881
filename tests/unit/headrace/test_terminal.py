"""What clients and servers wrote can't steer an operator's terminal."""

import pytest

from headrace.checks import Check, Level, Promise
from headrace.doctor import text_of
from headrace.find import line_of, sum_of
from headrace.findings import Finding, State, Station, verdict
from headrace.terminal import plain
from headrace.top import Look, _show

EVIL = "evil\x1b]0;pwned\x07\x1b[2J\r\nrow  found  all is fine\x9b31m\u202e\u2028"


def _is_plain(text: str) -> bool:
    return "evil" in text and text.isprintable()


def test_what_is_not_printable_is_escaped() -> None:
    """Other letters than ASCII's are printable."""
    assert plain("Zürich 東京") == "Zürich 東京"
    assert plain("\x1b[2J\r\n") == "\\x1b[2J\\r\\n"


@pytest.mark.parametrize("station", [Station.SPOOL, Station.ROW, Station.DEAD_LETTER, Station.TOPIC])
def test_find_is_one_line_for_a_finding_and_one_for_the_verdict(station: Station) -> None:
    """A clientId, a reason, a letter's id may be anybody's text."""
    finding = Finding(station, State.FOUND, EVIL, EVIL)

    assert _is_plain(line_of(finding))
    assert _is_plain(sum_of(verdict([finding])))


def test_doctor_is_one_line_and_one_for_the_cure() -> None:
    """A server's message may hold anything."""
    first, cure = text_of(Check(Promise.ONCE, Level.BROKEN, EVIL, EVIL)).split("\n")

    assert _is_plain(first)
    assert _is_plain(cure)


def test_top_shows_notes_and_errors_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Commit metadata are anybody's in the group."""
    line = {"topic": "events", "partition": 0, "committed": 1, "end": 2, "lag": 1, "note": EVIL, "waiting_s": 0.0}
    _show(None, Look(1.0, [line], unknown=(EVIL,)), as_json=False, is_live=False)

    output = capsys.readouterr().out
    assert output.count("evil") == 2
    assert output.replace("\n", "").isprintable()
