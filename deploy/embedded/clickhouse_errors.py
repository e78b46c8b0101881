"""ClickHouse's errors: how the engine words them, and what the HTTP interface makes of them."""

from __future__ import annotations

import re
from typing import Final

# Codes that this server raises itself; names as in the engine's `errorCodeToName`.
CANNOT_READ_ALL_DATA: Final = (33, "CANNOT_READ_ALL_DATA")
NOT_IMPLEMENTED: Final = (48, "NOT_IMPLEMENTED")
LOGICAL_ERROR: Final = (49, "LOGICAL_ERROR")
SYNTAX_ERROR: Final = (62, "SYNTAX_ERROR")
UNKNOWN_TYPE_OF_QUERY: Final = (78, "UNKNOWN_TYPE_OF_QUERY")
UNKNOWN_FORMAT: Final = (73, "UNKNOWN_FORMAT")
UNKNOWN_SETTING: Final = (115, "UNKNOWN_SETTING")
READONLY: Final = (164, "READONLY")
INTO_OUTFILE_NOT_ALLOWED: Final = (358, "INTO_OUTFILE_NOT_ALLOWED")
INVALID_USAGE_OF_INPUT: Final = (477, "INVALID_USAGE_OF_INPUT")
AUTHENTICATION_FAILED: Final = (516, "AUTHENTICATION_FAILED")
CANNOT_DECOMPRESS: Final = (271, "CANNOT_DECOMPRESS")

# What ClickHouse's HTTP handler answers for a name; every other one is a 500.
# Source: ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
_NAMES_OF_STATUS: Final[dict[int, str]] = {
    400: "BAD_ARGUMENTS CANNOT_COMPILE_REGEXP CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME"
    " CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING CANNOT_PARSE_ESCAPE_SEQUENCE CANNOT_PARSE_INPUT_ASSERTION_FAILED"
    " CANNOT_PARSE_IPV4 CANNOT_PARSE_IPV6 CANNOT_PARSE_NUMBER CANNOT_PARSE_QUOTED_STRING CANNOT_PARSE_TEXT"
    " CANNOT_PARSE_UUID DUPLICATE_COLUMN ILLEGAL_COLUMN INCORRECT_DATA SYNTAX_ERROR THERE_IS_NO_COLUMN TOO_BIG_AST"
    " TOO_DEEP_AST TYPE_MISMATCH UNEXPECTED_AST_STRUCTURE UNKNOWN_ELEMENT_IN_AST UNKNOWN_TYPE_OF_AST_NODE"
    " VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    401: "REQUIRED_PASSWORD",
    403: "ACCESS_DENIED AUTHENTICATION_FAILED SET_NON_GRANTED_ROLE UNKNOWN_USER WRONG_PASSWORD",
    404: "UNKNOWN_AGGREGATE_FUNCTION UNKNOWN_DATABASE UNKNOWN_DATABASE_ENGINE UNKNOWN_DIRECTION_OF_SORTING"
    " UNKNOWN_FORMAT UNKNOWN_FUNCTION UNKNOWN_IDENTIFIER UNKNOWN_ROLE UNKNOWN_SETTING UNKNOWN_STORAGE UNKNOWN_TABLE"
    " UNKNOWN_TYPE UNKNOWN_TYPE_OF_QUERY",
    408: "TIMEOUT_EXCEEDED",
    411: "HTTP_LENGTH_REQUIRED",
    413: "QUERY_IS_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    501: "NOT_IMPLEMENTED",
    503: "CANNOT_OPEN_FILE CANNOT_SCHEDULE_TASK SOCKET_TIMEOUT",
}
_STATUS: Final = {name: status for status, names in _NAMES_OF_STATUS.items() for name in names.split()}

_CODE: Final = re.compile(r"Code: (\d+)")
_NAME: Final = re.compile(r"\s*\((?P<name>[A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")
_VERSION: Final = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\s*\Z")
# An insert's body lies in a file without a name; a reader of the message knows nothing of it.
_FILE: Final = re.compile(r"\(in file/uri [^)]*\): ")
_FILE_STEPS: Final = (": data for INSERT was parsed from file", ": While executing File")


class ClickHouseError(Exception):
    """What a query ended in, as the HTTP interface words it.

    Attributes:
        code: ClickHouse's number.
        name: ClickHouse's name of the code, upper case.
        message: What happened, without code, name and version.
    """

    def __init__(self, kind: tuple[int, str], message: str) -> None:
        self.code, self.name = kind
        self.message = message
        super().__init__(f"Code: {self.code}. DB::Exception: {message.rstrip('.')}. ({self.name})")

    @property
    def http_status(self) -> int:
        """The HTTP status ClickHouse gives this error."""
        return _STATUS.get(self.name, 500)

    def text(self, version: str) -> str:
        """Return the body of the answer, one line at least, ending in the version."""
        return f"{self} (version {version})\n"


def from_engine(text: str) -> ClickHouseError:
    """Read the engine's own wording, which may wrap one error in another.

    The outermost code counts, as it does for ClickHouse. A text without a code becomes LOGICAL_ERROR.
    """
    found = _CODE.search(text)
    if found is None:
        return ClickHouseError(LOGICAL_ERROR, text)
    message, name = text[found.start() :], LOGICAL_ERROR[1]
    while end := _NAME.search(message):
        message, name = message[: end.start()], end["name"]
        message = message.removesuffix(".")
    message = _VERSION.sub("", message)
    prefix = f"Code: {found[1]}. DB::Exception: "
    while message.startswith(prefix):
        message = message.removeprefix(prefix)
    return ClickHouseError((int(found[1]), name), _without_file(message))


def _without_file(message: str) -> str:
    for step in _FILE_STEPS:
        message = message.removesuffix(step)
    return _FILE.sub("", message)
