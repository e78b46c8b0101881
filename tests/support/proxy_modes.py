"""What a FaultProxy does to a request (HTTP) or a connection (anything else)."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pass:
    """Both ways, unchanged."""


@dataclass(frozen=True)
class Refuse:
    """Close every connection and refuse new ones, as where no server runs. Until changed; it cannot be counted out."""


@dataclass(frozen=True)
class Reset:
    """Reset the client's connection at once; nothing is forwarded."""


@dataclass(frozen=True)
class BlackHole:
    """Take everything, forward nothing and never answer."""


@dataclass(frozen=True)
class DropAnswer:
    """Forward all of the request, wait for all of the answer, then reset the client before any byte of it."""


@dataclass(frozen=True)
class DelayAnswer:
    """Forward at once, and hold the answer back for so long; without HTTP, each piece of it."""

    seconds: float


@dataclass(frozen=True)
class DelayRequest:
    """Read the request, forward it so much later, even if the client has left. HTTP only; counted once answered."""

    seconds: float


@dataclass(frozen=True)
class Profile:
    """Forward with more settings in the URL, where the client does not set them itself, as a profile does."""

    settings: Mapping[str, int]


@dataclass(frozen=True)
class CutBody:
    """Forward the head and so many bytes of the body as sent, then reset both sides; without HTTP, so many bytes.

    A number below 0 leaves so many bytes off the end of a body with a Content-Length.
    """

    after_bytes: int


@dataclass(frozen=True)
class CutAnswer:
    """Forward the request and the first so many bytes of the answer, then close, as for a killed server. HTTP only."""

    after_bytes: int


@dataclass(frozen=True)
class LimitBody:
    """Answer 413 to a request whose Content-Length is above this, as nginx does, and let the others pass. HTTP only."""

    bytes_max: int


@dataclass(frozen=True)
class Answer:
    """Take the request, forward nothing, answer with this. HTTP only; Content-Length is added."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Mode = (
    Pass
    | Refuse
    | Reset
    | BlackHole
    | DropAnswer
    | DelayAnswer
    | DelayRequest
    | Profile
    | CutBody
    | CutAnswer
    | LimitBody
    | Answer
)
