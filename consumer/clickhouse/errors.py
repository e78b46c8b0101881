"""Translates ClickHouse's errors to the worker's, by tables of error codes.

An unlisted code is Transient: the step is repeated under the same token, which can't lose or double anything, while an
alarm rings. Stopping, or sending to the dead letters, needs a reason, which stands beside each group of codes.
Codes and names: ClickHouse, src/Common/ErrorCodes.cpp.
"""

import re
from http import HTTPStatus
from typing import Final

from consumer.errors import (
    Cause,
    ConsumerError,
    Denied,
    Fatal,
    Halt,
    HaltCode,
    Reason,
    Rejected,
    TooLarge,
    Transient,
)

# The rows are bad: raised while they are read or checked, before anything is written. A retry reads the same bytes.
_BAD_AVRO: Final = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    33: "CANNOT_READ_ALL_DATA",
    748: "AVRO_EXCEPTION",  # "Value out of range for Avro int", "EOF reached"
}
_BAD_VALUE: Final = {
    6: "CANNOT_PARSE_TEXT",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",  # accurateCast() of a number that the column can't hold
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    128: "TOO_LARGE_ARRAY_SIZE",
    130: "CANNOT_READ_ARRAY_FROM_TEXT",
    131: "TOO_LARGE_STRING_SIZE",
    153: "ILLEGAL_DIVISION",  # by zero, in an operator's column or constraint
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",  # an operator's check in a column's expression
    407: "DECIMAL_OVERFLOW",
    441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
    467: "CANNOT_PARSE_BOOL",
    563: "CANNOT_READ_MAP_FROM_TEXT",
    632: "UNEXPECTED_DATA_AFTER_PARSED_VALUE",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
}
_CONSTRAINT: Final = {469: "VIOLATED_CONSTRAINT"}
# An operator must act, and a retry gets the same answer. The statement never ran, so nothing was written.
_STATEMENT: Final = {  # a table, column, function or type is missing or of another kind: `migrate`, or a newer server
    8: "THERE_IS_NO_COLUMN",
    10: "NOT_FOUND_COLUMN_IN_BLOCK",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    20: "NUMBER_OF_COLUMNS_DOESNT_MATCH",
    36: "BAD_ARGUMENTS",
    43: "ILLEGAL_TYPE_OF_ARGUMENT",
    44: "ILLEGAL_COLUMN",
    46: "UNKNOWN_FUNCTION",
    47: "UNKNOWN_IDENTIFIER",
    48: "NOT_IMPLEMENTED",
    50: "UNKNOWN_TYPE",
    53: "TYPE_MISMATCH",
    60: "UNKNOWN_TABLE",
    62: "SYNTAX_ERROR",
    73: "UNKNOWN_FORMAT",
    81: "UNKNOWN_DATABASE",
    344: "SUPPORT_IS_DISABLED",
}
_SETTING: Final = {  # the profile forbids a setting that the protocol needs, or does not know it
    115: "UNKNOWN_SETTING",
    452: "SETTING_CONSTRAINT_VIOLATION",
    471: "INVALID_SETTING_VALUE",
    472: "READONLY_SETTING",
}
_LOGIN: Final = {  # a wrong password stays wrong, and repeated tries may lock the account
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    516: "AUTHENTICATION_FAILED",
    720: "USER_EXPIRED",
}
_RIGHTS: Final = {  # permissions may be granted later, and retries do no harm meanwhile
    164: "READONLY",
    291: "DATABASE_ACCESS_DENIED",
    497: "ACCESS_DENIED",
    512: "SET_NON_GRANTED_ROLE",
}
# Refused for now, before it started: waiting helps.
_BUSY: Final = {
    173: "CANNOT_ALLOCATE_MEMORY",
    201: "QUOTA_EXCEEDED",  # quotas are per interval
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    241: "MEMORY_LIMIT_EXCEEDED",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",  # merges are behind; 252 has another meaning below
    285: "TOO_FEW_LIVE_REPLICAS",
    439: "CANNOT_SCHEDULE_TASK",
    745: "SERVER_OVERLOADED",
}
# The rows may have been written: the server lost Keeper, or timed out, during the insert.
_UNKNOWN: Final = {
    159: "TIMEOUT_EXCEEDED",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    242: "TABLE_IS_READ_ONLY",  # the replica lost its Keeper session before or after the commit
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    999: "KEEPER_EXCEPTION",
    1001: "STD_EXCEPTION",  # any C++ exception, including an older server's avro::Exception: see below
    1002: "UNKNOWN_EXCEPTION",
}
NAMES: Final = {
    code: name
    for group in (_BAD_AVRO, _BAD_VALUE, _CONSTRAINT, _STATEMENT, _SETTING, _LOGIN, _RIGHTS, _BUSY, _UNKNOWN)
    for code, name in group.items()
}
"""All listed codes with ClickHouse's names."""

_REASONS: Final = (
    dict.fromkeys(_BAD_AVRO, Reason.BAD_AVRO)
    | dict.fromkeys(_BAD_VALUE, Reason.BAD_VALUE)
    | dict.fromkeys(_CONSTRAINT, Reason.CONSTRAINT)
)
# The same code, but waiting never helps: the batch spans more table partitions than the server allows.
_TOO_MANY_PARTITIONS: Final = "Too many partitions for single INSERT block"
# Matched at the message's end, where ClickHouse says what it was doing; the text before may come from a row.
_VIEW: Final = re.compile(
    r": while (?:pushing|write prefix) to view \S+(?: \([0-9a-f-]{36}\))?(?:: While executing [^'\"{}]*)?"
    r"\. \([A-Z_0-9]+\)"
    r"(?:$| \(version | \(for url )"
)
_MIGRATE_HELPS: Final = frozenset({8, 10, 16, 20, 47, 60, 81})
_MANY: Final = 252
_STD_EXCEPTION: Final = 1001
_AVRO: Final = "avro::Exception"
_ROW: Final = re.compile(r"\bat row (\d+)\b")
_CONSTRAINT_NAME: Final = re.compile(r"Constraint `(\w{1,60})`")
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_MESSAGE_MAX: Final = 300

_NOT_CLICKHOUSE: Final = "CONSUMER_CLICKHOUSE_URL must lead to its HTTP interface, and no proxy may answer in its place"
_REDIRECTED: Final = "it redirects; set CONSUMER_CLICKHOUSE_URL to the address that it redirects to"
_UNREACHED: Final = "a proxy can't reach it; is ClickHouse up, and is the proxy's upstream address right?"
_FORBIDDEN: Final = "a proxy wants a login or blocks requests; let it pass them unchanged"
_TOO_LARGE: Final = (
    "a proxy before ClickHouse does not accept a request of this size; raise its limit (nginx: client_max_body_size)"
    " above CONSUMER_BATCH_BYTES_MAX, or lower that"
)
_OF_HTTP: Final = {
    401: _FORBIDDEN,
    403: _FORBIDDEN,
    407: _FORBIDDEN,
    429: "a proxy limits requests; raise its limit, or CONSUMER_BATCH_AGE_S_MAX",
    502: _UNREACHED,
    503: _UNREACHED,
    504: "a proxy timed out; raise its timeout (nginx: proxy_read_timeout) above CONSUMER_INSERT_TIMEOUT_S",
}


def of_clickhouse(code: int, message: str) -> ConsumerError:
    """Translate an error that ClickHouse answered with.

    Its message quotes rows, so ours keep only facts of it: code, name, row number, name of a constraint.
    """
    if _VIEW.search(message):
        return Transient(f"{_named(code)} in a materialized view; the rows are in the table", Cause.VIEW)
    reason = Reason.BAD_AVRO if code == _STD_EXCEPTION and _AVRO in message else _REASONS.get(code)
    if reason is not None:
        return _rejected(code, message, reason)
    if (fatal := _fatal(code, message)) is not None:
        return fatal
    return Transient(f"{_named(code)}: {without_values(message)}", Cause.BUSY if code in _BUSY else Cause.UNKNOWN)


def _fatal(code: int, message: str) -> Fatal | None:
    """Return the Fatal error that only an operator can resolve, else None."""
    if code == _MANY and _TOO_MANY_PARTITIONS in message:
        text = (
            "the batch spans more table partitions than max_partitions_per_insert_block: raise it for the worker's user"
        )
        return Halt(f"{_named(code)}: {text}", HaltCode.TABLE)
    if code in _RIGHTS:
        return Denied(f"{_named(code)}: {without_values(message)}")
    if code in _STATEMENT or code in _SETTING:
        advice = "; run `python -m consumer migrate`" if code in _MIGRATE_HELPS else ""
        return Halt(f"{_named(code)}: {without_values(message)}{advice}", HaltCode.TABLE)
    if code in _LOGIN:
        return Fatal(f"{_named(code)}: {without_values(message)}")
    return None


def of_http(status: int, size_bytes: int) -> Transient:
    """Translate an HTTP answer that names no ClickHouse error; most likely it is a proxy's.

    Only 413 means that the request was not passed on.
    """
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge(f"HTTP 413 for a request of {size_bytes} bytes: {_TOO_LARGE}", size_bytes)
    advice = _OF_HTTP.get(status, _REDIRECTED if 300 <= status < 400 else _NOT_CLICKHOUSE)  # noqa: PLR2004  (3xx)
    return Transient(f"HTTP {status}, not from ClickHouse: {advice}", Cause.UNKNOWN)


def without_values(message: str) -> str:
    """Return an error's message without quoted text, which may come from a row, and without the driver's prefix."""
    said = message.rpartition("DB::Exception: ")[2].partition("(version ")[0]
    return _QUOTED.sub("'…'", " ".join(said.split()))[:_MESSAGE_MAX].strip()


def _rejected(code: int, message: str, reason: Reason) -> Rejected:
    row = _ROW.search(message)
    constraint = _CONSTRAINT_NAME.search(message)
    facts = [_named(code), *([f"constraint {constraint[1]}"] if constraint else [])]
    return Rejected(", ".join(facts), code, int(row[1]) if row else None, reason)


def _named(code: int) -> str:
    return f"ClickHouse {code} {NAMES.get(code, '')}".rstrip()
