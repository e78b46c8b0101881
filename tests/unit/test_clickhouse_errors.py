"""The engine's error texts become ClickHouse's answers."""

from __future__ import annotations

import pytest

from deploy.embedded.clickhouse_errors import SYNTAX_ERROR, ClickHouseError, from_engine


def test_a_plain_error_keeps_code_name_and_message() -> None:
    """The engine's text and the answer's text differ in the version alone."""
    error = from_engine("Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)")
    assert (error.code, error.name, error.http_status) == (60, "UNKNOWN_TABLE", 404)
    assert error.text("26.9") == (
        "Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE) (version 26.9)\n"
    )


def test_an_error_in_an_error_is_said_once() -> None:
    """The engine's client side wraps what its server side says; a reader gets the inner text."""
    text = (
        "Code: 27. DB::Exception: Code: 27. DB::Exception: Cannot parse input: expected ',': (at row 3)\n"
        ": (in file/uri /proc/self/fd/9): While executing CSVRowInputFormat: While executing File"
        ": data for INSERT was parsed from file. (CANNOT_PARSE_INPUT_ASSERTION_FAILED) (version 26.9.2.1)."
        " (CANNOT_PARSE_INPUT_ASSERTION_FAILED)"
    )
    error = from_engine(text)
    assert (error.code, error.name, error.http_status) == (27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", 400)
    assert error.message == ("Cannot parse input: expected ',': (at row 3)\n: While executing CSVRowInputFormat")


def test_a_foreign_exception_keeps_its_number() -> None:
    """What a library under the engine throws has a code in the middle of the text."""
    text = "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached (version 26.9.2.1)"
    error = from_engine(f"Code: 1001. DB::Exception: {text}. (STD_EXCEPTION)")
    assert (error.code, error.name, error.http_status) == (1001, "STD_EXCEPTION", 500)
    assert error.message == "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached"


def test_a_text_without_a_code_is_a_logical_error() -> None:
    """No failure of the engine becomes a success or a text without a code."""
    error = from_engine("something broke")
    assert (error.code, error.http_status, error.message) == (49, 500, "something broke")


@pytest.mark.parametrize(
    ("name", "status"),
    [("SYNTAX_ERROR", 400), ("UNKNOWN_SETTING", 404), ("TIMEOUT_EXCEEDED", 408), ("NOT_IMPLEMENTED", 501)],
)
def test_the_status_is_clickhouses(name: str, status: int) -> None:
    """Clients decide by the status whether a query is worth another try."""
    assert ClickHouseError((SYNTAX_ERROR[0], name), "x").http_status == status
    assert ClickHouseError((395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"), "x").http_status == 500
