"""What each failure of ClickHouse and of Kafka means for the worker: the tables, and how a message becomes facts.

A code that stands in no table is Transient: an unknown failure is repeated under the same token, which can't lose or
double anything, while an alarm rings; to stop or to dead-letter needs a reason, and each stands beside its group.
Codes and names: ClickHouse, src/Common/ErrorCodes.cpp. Names of Kafka's errors: KafkaError.name().
"""

import re
from http import HTTPStatus
from typing import Final

from consumer.errors import (
    Cause,
    ConsumerError,
    Denied,
    Fatal,
    Fenced,
    Halt,
    HaltCode,
    Reason,
    Rejected,
    TooLarge,
    Transient,
)

# The rows are bad: raised while they are read or checked, before anything is written. Another try reads the same bytes.
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
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",  # an operator's own check in a column's expression
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
# Only a person helps, and another try of the same statement gives the same answer; it never ran: nothing is in doubt.
_STATEMENT: Final = {  # table, column, function or type is not there or of another kind: `migrate`, or a newer server
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
_SETTING: Final = {  # the profile forbids a setting that the protocol rests on, or does not know it
    115: "UNKNOWN_SETTING",
    452: "SETTING_CONSTRAINT_VIOLATION",
    471: "INVALID_SETTING_VALUE",
    472: "READONLY_SETTING",
}
_LOGIN: Final = {  # a wrong password does not become right; a worker that goes on trying locks the account
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    516: "AUTHENTICATION_FAILED",
    720: "USER_EXPIRED",
}
_RIGHTS: Final = {  # somebody who can take them away can give them back, and no try does harm meanwhile
    164: "READONLY",
    291: "DATABASE_ACCESS_DENIED",
    497: "ACCESS_DENIED",
    512: "SET_NON_GRANTED_ROLE",
}
# Refused before it began, for now: waiting helps.
_BUSY: Final = {
    173: "CANNOT_ALLOCATE_MEMORY",
    201: "QUOTA_EXCEEDED",  # quotas are per interval
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    241: "MEMORY_LIMIT_EXCEEDED",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",  # merges are behind; the other meaning of 252 is below
    285: "TOO_FEW_LIVE_REPLICAS",
    439: "CANNOT_SCHEDULE_TASK",
    745: "SERVER_OVERLOADED",
}
# It may have been written: the server lost its Keeper or its time in the middle.
_UNKNOWN: Final = {
    159: "TIMEOUT_EXCEEDED",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    242: "TABLE_IS_READ_ONLY",  # the replica lost its Keeper session, before the commit or after it
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    999: "KEEPER_EXCEPTION",
    1001: "STD_EXCEPTION",  # anything at all, an older server's avro::Exception too: see below
    1002: "UNKNOWN_EXCEPTION",
}
NAMES: Final = {
    code: name
    for group in (_BAD_AVRO, _BAD_VALUE, _CONSTRAINT, _STATEMENT, _SETTING, _LOGIN, _RIGHTS, _BUSY, _UNKNOWN)
    for code, name in group.items()
}
"""Every code that has a class of its own, by ClickHouse's name for it."""

_REASONS: Final = (
    dict.fromkeys(_BAD_AVRO, Reason.BAD_AVRO)
    | dict.fromkeys(_BAD_VALUE, Reason.BAD_VALUE)
    | dict.fromkeys(_CONSTRAINT, Reason.CONSTRAINT)
)
# The same code, but it never succeeds by waiting: the batch spans more table partitions than the server allows.
_TOO_MANY_PARTITIONS: Final = "Too many partitions for single INSERT block"
# At the message's end, where ClickHouse says what it was doing; what stands before may be a row's own text.
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

# The group has forgotten this member. ILLEGAL_GENERATION and STALE_MEMBER_EPOCH are not among them: a member in good
# standing is told so while a rebalance leaves it its partitions (seen on Apache Kafka 4.1), and has to try again.
_FENCED_KAFKA: Final = frozenset({"UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH", "_FENCED"})
# Rights that somebody can give back, and what concerns one partition alone.
_HALT_KAFKA: Final[dict[str, HaltCode]] = {
    "TOPIC_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "GROUP_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "CLUSTER_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": HaltCode.DENIED,
    "OFFSET_METADATA_TOO_LARGE": HaltCode.INTENT,
}
# Only a person helps: a client and broker that do not understand each other, or two processes of one static name
# (FENCED_INSTANCE_ID), which would expel each other for ever.
_FATAL_KAFKA: Final = frozenset(
    {"UNSUPPORTED_SASL_MECHANISM", "UNSUPPORTED_VERSION", "INVALID_GROUP_ID", "INVALID_TOPIC_EXCEPTION"}
    | {"UNSUPPORTED_ASSIGNOR", "_UNSUPPORTED_FEATURE", "_INVALID_ARG", "_FATAL", "_AUTO_OFFSET_RESET"}
    | {"FENCED_INSTANCE_ID"}
)


_NOT_CLICKHOUSE: Final = (
    "CONSUMER_CLICKHOUSE_URL must lead to its HTTP interface, and nothing on the way may answer itself"
)
_REDIRECTED: Final = "it redirects; let CONSUMER_CLICKHOUSE_URL name the address behind that"
_UNREACHED: Final = "a proxy does not reach it; is ClickHouse up, and does the proxy look for it in the right place?"
_FORBIDDEN: Final = "a proxy wants a login of its own, or lets nobody through; let it pass requests as they are"
_TOO_LARGE: Final = (
    "a proxy before ClickHouse takes no request of this size; raise its limit (nginx: client_max_body_size) above"
    " CONSUMER_BATCH_BYTES_MAX, or lower that"
)
_OF_HTTP: Final = {
    401: _FORBIDDEN,
    403: _FORBIDDEN,
    407: _FORBIDDEN,
    429: "a proxy limits requests; let it take more of them, or raise CONSUMER_BATCH_AGE_S_MAX",
    502: _UNREACHED,
    503: _UNREACHED,
    504: "a proxy waited for it in vain; let it wait (nginx: proxy_read_timeout) longer than CONSUMER_INSERT_TIMEOUT_S",
}


def of_clickhouse(code: int, message: str) -> ConsumerError:
    """Return what the worker does about an error that ClickHouse answered with.

    Its message quotes rows, so no message of ours holds more of it than facts: code, name, row, name of a constraint.
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
    """Return what only a person can mend, if it is that."""
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
    """Return what the worker does about an answer of HTTP that names no error of ClickHouse: a proxy's, most likely.

    Nothing but 413 says that the request was not passed on.
    """
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge(f"HTTP 413 for a request of {size_bytes} bytes: {_TOO_LARGE}", size_bytes)
    advice = _OF_HTTP.get(status, _REDIRECTED if 300 <= status < 400 else _NOT_CLICKHOUSE)  # noqa: PLR2004  (3xx)
    return Transient(f"HTTP {status}, and not from ClickHouse: {advice}", Cause.UNKNOWN)


def of_kafka(name: str, message: str) -> ConsumerError:
    """Return what the worker does about an error of Kafka, by the name of its code."""
    shown = f"{name}: {message}"
    if name in _FENCED_KAFKA:
        return Fenced(shown)
    if code := _HALT_KAFKA.get(name):
        return Halt(shown, code)
    return Fatal(shown) if name in _FATAL_KAFKA else Transient(shown)


def without_values(message: str) -> str:
    """Return an error's message without what stands in quotes, which may be a row's, and without the driver's frame."""
    said = message.rpartition("DB::Exception: ")[2].partition("(version ")[0]
    return _QUOTED.sub("'…'", " ".join(said.split()))[:_MESSAGE_MAX].strip()


def _rejected(code: int, message: str, reason: Reason) -> Rejected:
    row = _ROW.search(message)
    constraint = _CONSTRAINT_NAME.search(message)
    facts = [_named(code), *([f"constraint {constraint[1]}"] if constraint else [])]
    return Rejected(", ".join(facts), code, int(row[1]) if row else None, reason)


def _named(code: int) -> str:
    return f"ClickHouse {code} {NAMES.get(code, '')}".rstrip()
