"""Log lines: JSON, and never a client's text."""

import json
import logging
from typing import Any

import pytest

from ingest.logs import REFUSALS, LineBudget, LineFormatter, log_config, start_logging
from tests.support.fake_broker import Clock


def line_of(message: str, *args: object, **extra: object) -> dict[str, Any]:
    """Return the line of a record of a logger named x."""
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": message, "args": args} | extra)
    line: dict[str, Any] = json.loads(LineFormatter().format(record))
    return line


def test_a_line_is_one_json_object() -> None:
    """What `extra` gave are members beside time, level, logger, process and message."""
    line = line_of("it is %d\nor so", 3, request_id="abc", figures={"a": 1})

    assert set(line) == {"at", "level", "logger", "pid", "message", "request_id", "figures"}
    assert line["message"] == "it is 3\nor so"
    assert (line["level"], line["logger"], line["figures"]) == ("INFO", "x", {"a": 1})


def test_a_traceback_tells_where_but_quotes_nothing() -> None:
    """Frames and types of an exception and its cause are there, their messages are not."""
    payload = "s3cret"
    try:
        try:
            int(payload)
        except ValueError as error:
            raise RuntimeError(payload) from error
    except RuntimeError as error:
        line = line_of("defect", exc_info=(type(error), error, error.__traceback__))

    assert "builtins.RuntimeError" in line["traceback"]
    assert "builtins.ValueError" in line["traceback"]
    assert "int(payload)" in line["traceback"]
    assert "s3cret" not in line["traceback"]


def test_refusals_can_be_silenced_alone() -> None:
    """At a high rate of refusals, their lines can be switched off, and nothing else goes with them."""
    start_logging("INFO", refusals=False)

    assert not logging.getLogger(REFUSALS).isEnabledFor(logging.ERROR)
    assert logging.getLogger("ingest.service").isEnabledFor(logging.INFO)


def test_gunicorn_and_the_application_share_one_handler() -> None:
    """Every line of a process takes the same way out."""
    config = log_config("INFO")

    assert config["root"]["handlers"] == ["stderr"]
    assert config["loggers"]["gunicorn.error"]["handlers"] == []


def passed(budget: LineBudget, message: str, times: int = 1, name: str = "x") -> list[int | None]:
    """Return what the lines that pass say of suppressed ones."""
    records = [logging.makeLogRecord({"name": name, "msg": message}) for _ in range(times)]
    return [record.__dict__.get("suppressed") for record in records if budget.filter(record)]


def test_lines_of_one_kind_are_bounded_and_the_next_one_tells_of_the_others() -> None:
    """Three of a hundred in a second; the first of a later second says how many there were besides."""
    clock = Clock()
    budget = LineBudget(3, clock)

    assert passed(budget, "request refused", 100) == [None] * 3
    clock.now_s += 0.9
    assert passed(budget, "request refused", 10) == []
    clock.now_s += 0.1
    assert passed(budget, "request refused", 2) == [107, None]
    clock.now_s += 60
    assert passed(budget, "request refused") == [None]


def test_lines_of_other_kinds_are_not_lost_among_them() -> None:
    """Another message, or the same of another logger, has its own budget; what is put into a message does not."""
    budget = LineBudget(1, Clock())
    passed(budget, "request refused", 1000)

    assert passed(budget, "final event counts") == [None]
    assert passed(budget, "request refused", name="y") == [None]
    assert passed(budget, "event %d parked", 5) == [None]


def test_the_number_of_kinds_is_bounded() -> None:
    """A library that writes every message anew fills no memory."""
    budget = LineBudget(1, Clock())

    assert [passed(budget, f"broker {number} is down") for number in range(5000)] == [[None]] * 5000
    assert len(budget) <= 1000


def test_the_budget_holds_for_what_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    """The process's own configuration has it, whichever logger writes."""
    start_logging("INFO", 2)
    for _ in range(50):
        logging.getLogger(REFUSALS).info("request refused")
        logging.getLogger("gunicorn.error").warning("the server failed to handle a request")

    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert lines.count("request refused") == lines.count("the server failed to handle a request") == 2
