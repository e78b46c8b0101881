"""What the client can do next, never where the failure came from.

IngestError
├── Rejected      4xx: repair the request (or wait, for 429) and send it again
└── Unavailable   503: send the same request again after `retry_after_s`
"""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """Which rule a request or an event broke: the response's `rule`, the metric's label and the log's key."""

    JSON = "json"
    TYPE = "type"
    REQUIRED = "required"
    ENUM = "enum"
    FORMAT = "format"
    LENGTH = "length"
    ITEMS = "items"
    DEPTH = "depth"
    INTEGER = "integer"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule.

    Attributes:
        rule: which rule.
        pointer: where, as a JSON pointer (RFC 6901) into the request's body.
        message: one sentence: what was got, what is known; never a payload.
        index: the event's place in `messageBody`; None for a fault of the request as a whole.
    """

    rule: Rule
    pointer: str
    message: str
    index: int | None = None


class IngestError(Exception):
    """A request that is not answered 201."""

    status: int


class Rejected(IngestError):
    """The client must change something; nothing of the request was taken."""

    def __init__(self, status: int, slug: str, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.slug = slug
        self.message = message
        self.faults = faults


class Unavailable(IngestError):
    """No durable place for the events right now; the same request may be sent again."""

    status = 503

    def __init__(self, slug: str, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.retry_after_s = retry_after_s
