"""Who may send, and how often: what is decided about a request before its body is looked at."""

from dataclasses import dataclass

from ingest.clients import Client, Registry
from ingest.errors import Headers, Rejected, Slug
from ingest.ratelimit import RateLimiter, Window, name_of_address


@dataclass(frozen=True, slots=True)
class Ticket:
    """What became of a request at the gate; `refusal` stands until the route raises it, so that it is counted there.

    `client` is None in an open collector, `window` without a rate limit.
    """

    client: Client | None = None
    window: Window | None = None
    refusal: Rejected | None = None

    @property
    def headers(self) -> Headers:
        """What every answer to the request carries."""
        return self.window.headers if self.window else ()

    @property
    def client_id(self) -> str:
        """The clientId that the request's key belongs to, "" in an open collector."""
        return self.client.client_id if self.client else ""

    def check(self) -> None:
        """Let the request in.

        Raises:
            Rejected: 429, 401 or 403.
        """
        if self.refusal is not None:
            raise self.refusal


class Gate:
    """Admits requests by key and by count. Threads share it."""

    def __init__(self, registry: Registry | None, limiter: RateLimiter | None, requests_max: int) -> None:
        """Make a gate; without a registry it is open, without a limiter it counts nothing."""
        self._registry = registry
        self._limiter = limiter
        self._requests_max = requests_max

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in without a key."""
        return self._registry is None

    def admit(self, key: str, origin: str, address: str, at_s: float) -> Ticket:
        """Judge a request; never raises, so that every answer can bear the window's headers.

        Whoever shows no valid key is counted by address, and the count goes first: guessing keys is limited too.

        Args:
            key: what the request shows, "" for nothing.
            origin: the page's origin, "" when no browser says one.
            address: the client's.
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
            return Ticket(client, None, refusal)
        window = self._count(self._limiter, client, address, at_s)
        return Ticket(client, window, _too_many(window, at_s) if window.is_exceeded else refusal)

    def _count(self, limiter: RateLimiter, client: Client | None, address: str, at_s: float) -> Window:
        if client is None:
            return limiter.hit(f"address:{name_of_address(address)}", self._requests_max, at_s)
        return limiter.hit(f"client:{client.client_id}", client.rate_limit or self._requests_max, at_s)


def _too_many(window: Window, at_s: float) -> Rejected:
    wait_s = window.retry_after_s(at_s)
    message = f"the limit of {window.limit} requests is reached, try again in {wait_s} s"
    return Rejected(Slug.RATE_LIMIT, message, headers=(("Retry-After", str(wait_s)),))
