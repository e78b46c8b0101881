"""What the worker does next, never where the failure came from.

ConsumerError
├── Transient   the same work again, later: a server was away, or the outcome is not known
│   └── TooLarge    the same again, or less at a time: a server in between takes no request of this size
├── Rejected    the table refuses these rows and has written none of them: find the poison
├── Fenced      the group has expelled this member: stop work on the partition, commit nothing
├── Recreated   the topic was recreated: forget what was read of it, and ask for its partitions again
└── Fatal       stop the process: it concerns all partitions, and trying again can't help
    ├── Halt    at the start, stop the process; while working, halt the partition, and try again now and then
    │   └── Denied      a right is missing
    └── Misconfigured   a setting, or the file that it names, can't be meant: exit code 2
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a record is a dead letter: header of the dead letter, column of the table, label of the metric."""

    FRAME = "frame"  # no magic byte, or shorter than a frame
    UNKNOWN_SCHEMA = "unknown_schema"  # nobody has a schema of that id
    BAD_AVRO = "bad_avro"  # truncated, or no record of its schema
    BAD_VALUE = "bad_value"  # a column's type refuses a value: no UUID, out of range
    CONSTRAINT = "constraint"  # a CONSTRAINT of the table is violated
    LEFT_OUT = "left_out"  # an earlier attempt found out why, and its own dead letter says it, if it came so far


class HaltCode(StrEnum):
    """Why a partition is halted, waiting for a person: label of the metric, and key of the log line."""

    DELETED = "deleted"  # records were deleted before they were read
    TRUNCATED = "truncated"  # the log was cut: it is not the one that was read, or does not have the next offset
    ALREADY_READ = "already_read"  # the tables hold offsets that the group has lost, or has been set back to
    UNREADABLE = "unreadable"  # the next bytes of the log can't be decompressed, or are broken
    FOREIGN_MARK = "foreign_mark"  # another program, or a newer worker, commits in this group
    TABLE = "table"  # ClickHouse does not know the table, a column or a setting, or a batch is too much for it
    DENIED = "denied"  # a right is missing
    REFUSED = "refused"  # the table refuses the batch, and no row is to blame
    NEWER = "newer"  # a later release wrote the record, or nothing vouches for its schema id
    TOO_LARGE = "too_large"  # a server before ClickHouse takes no request of this size, and it can't be smaller
    INTENT = "intent"  # a commit does not take the intent
    DEFECT = "defect"  # an error that nobody foresaw


class Cause(StrEnum):
    """Why a try is put off: label of the metrics, and what an alarm tells apart."""

    AWAY = "away"  # nobody answered, so nothing was begun
    BUSY = "busy"  # refused for now: memory, parts, connections, a replica without its Keeper
    UNKNOWN = "unknown"  # no definite answer: the rows may be in the table
    TOO_LARGE = "too_large"  # a server before ClickHouse takes no request of this size, and did not pass it on
    VIEW = "view"  # a materialized view failed; the rows are in the table, and it needs a person


class ConsumerError(Exception):
    """A step of the worker that did not succeed."""


class Transient(ConsumerError):
    """Try the same again; the outcome of the first try may be unknown.

    Attributes:
        cause: why.
    """

    def __init__(self, message: str, cause: Cause = Cause.AWAY) -> None:
        super().__init__(message)
        self.cause = cause


class TooLarge(Transient):
    """A server before ClickHouse takes no request of this size; it has passed nothing on.

    Attributes:
        size_bytes: of the request.
    """

    def __init__(self, message: str, size_bytes: int) -> None:
        super().__init__(message, Cause.TOO_LARGE)
        self.size_bytes = size_bytes


class Rejected(ConsumerError):
    """The table refuses the rows, and wrote none of them.

    Attributes:
        code: ClickHouse's error code.
        row: the 1-based row that the message names, or None.
        reason: what its poison is.
    """

    def __init__(self, message: str, code: int, row: int | None = None, reason: Reason = Reason.BAD_VALUE) -> None:
        super().__init__(message)
        self.code = code
        self.row = row
        self.reason = reason


class Fenced(ConsumerError):
    """The group gave the partition to another member."""


class Recreated(ConsumerError):
    """The topic is not the one that the records were read for."""


class Fatal(ConsumerError):
    """The process must stop; the message says what to do."""


class Halt(Fatal):
    """No row explains the failure, and a person must act; the message says how.

    Attributes:
        code: why.
    """

    def __init__(self, message: str, code: HaltCode) -> None:
        super().__init__(message)
        self.code = code


class Denied(Halt):
    """The account may not do this; its name and password are right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, HaltCode.DENIED)


class Misconfigured(Fatal):
    """A setting can't be meant; the message begins with its variable."""
