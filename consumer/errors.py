"""What the worker does next, never where the failure came from.

ConsumerError
├── Transient   the same work again, later: a server was away, or the outcome is not known
├── Rejected    the table refuses these rows and has written none of them: find the poison
├── Fenced      the group has expelled this member: stop work on the partition, commit nothing
└── Fatal       stop the worker; trying again can't help and skipping would lose events
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a record is a dead letter: header of the dead letter, column of the table, label of the metric."""

    FRAME = "frame"
    UNKNOWN_SCHEMA = "unknown_schema"
    BAD_AVRO = "bad_avro"
    TABLE = "table"


class ConsumerError(Exception):
    """A step of the worker that did not succeed."""


class Transient(ConsumerError):
    """Try the same again; the outcome of the first try may be unknown."""


class Rejected(ConsumerError):
    """The table refuses the rows, and wrote none of them.

    Attributes:
        code: ClickHouse's error code.
        row: the 0-based row that the message names, or None.
    """

    def __init__(self, message: str, code: int, row: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.row = row


class Fenced(ConsumerError):
    """The group gave the partition to another member."""


class Fatal(ConsumerError):
    """The worker must stop; the message says what to do."""
