"""Errors named by what the worker does next, not by where they came from.

ConsumerError
├── Transient   retry the same step later: a server was away, or the outcome is unknown
│   ├── TooLarge    retry, with less at a time: a proxy does not accept a request of this size
│   └── Unseen      the rows are acknowledged, but not to be seen: wait for replicas, then look again
├── Rejected    the table refuses these rows and has written none of them: find the poison
├── Fenced      the group has expelled this member: stop work on the partition, commit nothing
├── Recreated   the topic was recreated: discard what was read of it, and ask for its partitions again
└── Fatal       stop the process: all partitions are affected, and a retry can't help
    ├── Halt    at the start, stop the process; later, halt the partition and retry now and then
    │   └── Denied      a permission is missing
    └── Misconfigured   a setting, or the file that it names, is wrong: exit code 2
"""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a record is a dead letter: the dead letter's header, the table's column, the metric's label."""

    FRAME = "frame"  # no magic byte, or shorter than a frame
    UNKNOWN_SCHEMA = "unknown_schema"  # there is no schema of that id
    BAD_AVRO = "bad_avro"  # truncated, or not a record of its schema
    BAD_VALUE = "bad_value"  # a column's type refuses a value: not a UUID, out of range
    CONSTRAINT = "constraint"  # a CONSTRAINT of the table is violated
    LEFT_OUT = "left_out"  # an earlier attempt knew the reason; its dead letter says it, if that was sent


OF_TABLE: Final = frozenset({Reason.BAD_AVRO, Reason.BAD_VALUE, Reason.CONSTRAINT})
"""The reasons that only the table knows: until it refuses such a record, nobody looks for them."""


class HaltCode(StrEnum):
    """Why a partition is halted: the metric's label, and the log line's key."""

    DELETED = "deleted"  # records were deleted before they were read
    TRUNCATED = "truncated"  # the log was cut: it differs from what was read, or lacks the next offset
    ALREADY_READ = "already_read"  # the tables hold offsets that the group says are unread
    UNREADABLE = "unreadable"  # the next bytes of the log can't be decompressed, or are corrupt
    FOREIGN_MARK = "foreign_mark"  # another program, or a newer worker, commits in this group
    MIRRORED = "mirrored"  # the group's commit is of another Kafka cluster, of which this topic is a copy
    SHARD = "shard"  # the unfinished batch goes to a ClickHouse shard that this worker does not know
    TABLE = "table"  # ClickHouse lacks the table, a column or a setting, or a batch exceeds a limit
    DENIED = "denied"  # a permission is missing
    REFUSED = "refused"  # the table refuses the batch, and no row is to blame
    NEWER = "newer"  # a newer release wrote the record, or its schema id can't be confirmed
    TOO_LARGE = "too_large"  # a proxy does not accept a request of this size, and it can't be smaller
    INTENT = "intent"  # the broker does not accept the intent
    DEFECT = "defect"  # an unforeseen error


class Cause(StrEnum):
    """Why a step is retried later: the metrics' label, which alarms use."""

    AWAY = "away"  # no server answered, so nothing was started
    BUSY = "busy"  # refused for now: memory, parts, connections, a replica without its Keeper
    UNKNOWN = "unknown"  # no definite answer: the rows may be in the table
    TOO_LARGE = "too_large"  # a proxy does not accept a request of this size, and did not pass it on
    REPLICA = "replica"  # a replica does not have yet what another one has
    VIEW = "view"  # a materialized view failed; the rows are in the table, and an operator must act


class ConsumerError(Exception):
    """A step of the worker that did not succeed."""


class Transient(ConsumerError):
    """Retry the same step; the outcome of the first try may be unknown.

    Attributes:
        cause: why it failed.
    """

    def __init__(self, message: str, cause: Cause = Cause.AWAY) -> None:
        super().__init__(message)
        self.cause = cause


class TooLarge(Transient):
    """A proxy before ClickHouse does not accept a request of this size; it has passed nothing on.

    Attributes:
        size_bytes: the request's size.
    """

    def __init__(self, message: str, size_bytes: int) -> None:
        super().__init__(message, Cause.TOO_LARGE)
        self.size_bytes = size_bytes


class Unseen(Transient):
    """A replica does not show rows that were acknowledged: it lags, or they are lost."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Cause.REPLICA)


class Rejected(ConsumerError):
    """The table refuses the rows, and has written none of them.

    Attributes:
        code: ClickHouse's error code.
        row: the 1-based row that the message names, or None.
        reason: the reason for its dead letters.
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
    """An operator must act; no row explains the failure. The message says what to do.

    Attributes:
        code: why.
    """

    def __init__(self, message: str, code: HaltCode) -> None:
        super().__init__(message)
        self.code = code


class Denied(Halt):
    """The account lacks a permission; its name and password are right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, HaltCode.DENIED)


class Misconfigured(Fatal):
    """A setting is wrong; the message begins with its variable."""
