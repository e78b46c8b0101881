"""Admits requests by API key and rate limit, before their body is read."""

from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.access.clients import Client, Registry
from ingest.access.rate_limit import Allowance, Claim, RateLimiter, Window, name_of_address
from ingest.errors import ErrorCode, Headers, Rejected

_WHAT: Final = {
    ErrorCode.RATE_LIMIT: "requests",
    ErrorCode.EVENT_LIMIT: "events",
    ErrorCode.BYTE_LIMIT: "bytes of events",
}


class Admission(msgspec.Struct, frozen=True):
    """The decision about a request; the route raises `refusal`.

    `client` is None in an open collector, `windows` is empty without a rate limit.
    """

    client: Client | None = None
    windows: Sequence[Window] = ()
    refusal: Rejected | None = None

    @property
    def headers(self) -> Headers:
        """The rate limit's headers for every answer: those of the window with the fewest requests left."""
        return min(self.windows, key=lambda window: window.requests_left).headers if self.windows else ()

    @property
    def client_id(self) -> str:
        """The clientId of the request's key, "" in an open collector."""
        return self.client.client_id if self.client else ""

    def check(self) -> None:
        """Return if the request is admitted.

        Raises:
            Rejected: 429, 401 or 403.
        """
        if self.refusal is not None:
            raise self.refusal


ANYBODY: Final = Admission()
"""The decision where anybody may come in, and nothing is counted."""


class AccessControl:
    """Admits requests by key and by count. Threads share it."""

    def __init__(self, registry: Registry | None, limiter: RateLimiter | None, allowance: Allowance) -> None:
        """Without a registry anybody is admitted, without a limiter nothing is counted.

        `allowance` is that of an address in an open collector, and the default of a registered client.
        """
        self._registry = registry
        self._limiter = limiter
        self._allowance = allowance

    @property
    def is_open(self) -> bool:
        """Whether requests need no key."""
        return self._registry is None

    async def admit(self, key: str, origin: str, address: str, at_s: float) -> Admission:
        """Decide about a request; never raises, so that every answer can carry the window's headers.

        A request without a valid key is counted by address, and an exceeded limit takes precedence: so guessing keys is
        limited too.

        Args:
            key: the request's key, "" when it has none.
            origin: the page's origin, "" when the request names none.
            address: the client's address.
            at_s: Unix time.
        """
        client: Client | None = None
        refusal: Rejected | None = None
        if self._registry is not None:
            try:
                client = self._registry.find(key, origin)
            except Rejected as rejected:
                refusal = rejected
        if self._limiter is None:
            return Admission(client, (), refusal) if client or refusal else ANYBODY
        windows = await self._limiter.hit(self._claims(client, name_of_address(address)), at_s)
        return Admission(client, windows, _too_much(windows[-1], at_s) or refusal)

    def spend(self, admission: Admission, events: int, size_bytes: int) -> None:
        """Count the events and bytes of an admitted request; they affect the next request."""
        if self._limiter is not None:
            self._limiter.spend([window.claim for window in admission.windows], events, size_bytes)

    def _claims(self, client: Client | None, address: str) -> list[Claim]:
        """Return the windows in which a request is counted, the narrowest first."""
        if client is None:
            return [Claim(f"address:{address}", self._allowance)]
        allowance = client.allowance(self._allowance)
        claims = [Claim(f"client:{client.client_id}", allowance)]
        if client.address_share < 1:
            name = f"visitor:{address}:{client.client_id}"
            claims.insert(0, Claim(name, allowance.share(client.address_share), " from one address"))
        return claims


def _too_much(window: Window, at_s: float) -> Rejected | None:
    """Return a refusal if something is spent in the window, else None."""
    spent = window.spent
    if spent is None:
        return None
    wait_s = window.retry_after_s(at_s)
    most = dict(zip(_WHAT, window.claim.allowance, strict=True))[spent]
    message = f"the limit of {most} {_WHAT[spent]}{window.claim.whose} is reached, try again in {wait_s} s"
    return Rejected(spent, message, headers=(("Retry-After", str(wait_s)),))
