"""Errors named by what the client can do next, not by where they came from.

IngestError
├── Rejected      4xx: repair the request (or wait, for 429) and send it again
└── Unavailable   503: send the same request again after `retry_after_s`
    └── Overloaded    503: the same; nothing is broken, the process has too much to do
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

Headers = tuple[tuple[str, str], ...]
"""An answer's headers, as name and value."""


class Rule(StrEnum):
    """The broken rule of a fault: `rule` in an answer's details."""

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
    MEMBERS = "members"


class ErrorCode(StrEnum):
    """Why a request is rejected, with its status; also the metric's label and the log's key."""

    status: int

    def __new__(cls, text: str, status: int) -> Self:
        """Make a member that equals its text and carries its status."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.status = status
        return member

    BAD_JSON = "bad_json", 400
    BAD_SHAPE = "bad_shape", 400
    NOT_OBJECT = "not_object", 400
    NO_EVENTS = "no_events", 400
    EVENT_COUNT = "event_count", 400
    BAD_HEADERS = "bad_headers", 400
    BAD_EVENT_TYPE = "bad_event_type", 400
    BAD_EVENT_REQUIRED = "bad_event_required", 400
    BAD_EVENT_ENUM = "bad_event_enum", 400
    BAD_EVENT_FORMAT = "bad_event_format", 400
    BAD_EVENT_LENGTH = "bad_event_length", 400
    BAD_EVENT_DEPTH = "bad_event_depth", 400
    BAD_EVENT_INTEGER = "bad_event_integer", 400
    BAD_EVENT_SIZE = "bad_event_size", 400
    BAD_EVENT_MEMBERS = "bad_event_members", 400
    BAD_IDEMPOTENCY_KEY = "bad_idempotency_key", 400
    BAD_EVENT_JSON = "bad_event_json", 400
    BAD_HOST = "bad_host", 400
    BAD_BODY = "bad_body", 400
    TRUNCATED_BODY = "truncated_body", 400
    BAD_ENCODING = "bad_encoding", 400
    NO_KEY = "no_key", 401
    UNKNOWN_KEY = "unknown_key", 401
    KEY_DISABLED = "key_disabled", 403
    CLIENT_DISABLED = "client_disabled", 403
    OTHER_CLIENT = "other_client", 403
    ORIGIN_NOT_ALLOWED = "origin_not_allowed", 403
    PREFETCH = "prefetch", 403
    SLOW_REQUEST = "slow_request", 408
    TOO_LARGE = "too_large", 413
    TOO_MANY_NODES = "too_many_nodes", 413
    TOO_MANY_NAMES = "too_many_names", 413
    TOO_MUCH_COPIED = "too_much_copied", 413
    CONTENT_TYPE = "content_type", 415
    CONTENT_ENCODING = "content_encoding", 415
    RATE_LIMIT = "rate_limit", 429
    EVENT_LIMIT = "event_limit", 429
    BYTE_LIMIT = "byte_limit", 429


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule.

    Attributes:
        rule: which rule.
        pointer: where, as a JSON pointer (RFC 6901) into the request's body.
        message: one sentence: what was found and what is allowed; never a payload.
        index: the event's index in `messageBody`; None for a fault of the whole request.
    """

    rule: Rule
    pointer: str
    message: str
    index: int | None = None

    @property
    def headline(self) -> str:
        """The answer's `message` when this is its first fault."""
        return "invalid event type" if self.rule is Rule.ENUM else self.message

    @property
    def code(self) -> ErrorCode:
        """The error code of an event with this fault."""
        return ErrorCode[f"BAD_EVENT_{self.rule.name}"]


class IngestError(Exception):
    """The request is not answered 201."""

    status: int


class Rejected(IngestError):
    """The client must change the request; none of its events was accepted.

    `headers` help the client with that: Retry-After, WWW-Authenticate, Accept-Encoding.
    """

    def __init__(self, code: ErrorCode, message: str, faults: tuple[Fault, ...] = (), headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = code.status
        self.code = code
        self.message = message
        self.faults = faults
        self.headers = headers


class Unavailable(IngestError):
    """The events can't be made durable now; the client may send the same request again."""

    status = 503

    def __init__(self, code: str, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class Load(StrEnum):
    """The reasons for which a request is shed; error codes like those of ErrorCode."""

    OVERLOADED = "overloaded"
    """Too many requests in flight."""
    MEMORY_FULL = "memory_full"
    """Too many large requests in progress."""
    QUEUE_FULL = "queue_full"
    """Too many records await their acknowledgement."""


class Overloaded(Unavailable):
    """The process has too much to do; nothing is broken, and none of the request's events was accepted."""

    def __init__(self, load: Load, message: str) -> None:
        super().__init__(load, f"{message}; send it again")
