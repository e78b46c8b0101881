"""A worker under load whose way to ClickHouse leads through a proxy, and the oracle beside it."""

from dataclasses import dataclass
from typing import Final

from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member
from tests.support.proxy import Answer, FaultProxy

INSERT: Final = r"INSERT\+INTO\+events\+"
"""In the first line of an insert into the events, and of nothing else."""
PROBE: Final = r"INSERT\+INTO\+events_probe_"
QUERY: Final = "sent_rows_format="
"""In the first line of the query for rows that would be refused."""
TWIN: Final = "^POST (?!.*query=)"  # statements without data go in the body
TIMEOUT_S: Final = 2.0
"""What the rig's worker gives an insert."""
DRAIN_S: Final = 4.0
"""What it gives all that it took, when it is stopped."""


@dataclass
class Rig:
    """Load on a topic, a worker, a proxy before its ClickHouse, and the oracle beside the proxy."""

    proxy: FaultProxy
    fleet: Fleet
    feed: Feed

    def start(self, **settings: object) -> Member:
        """Start a worker behind the proxy."""
        own = {"clickhouse_url": self.proxy.url, "insert_timeout_s": TIMEOUT_S, "drain_s_max": DRAIN_S}
        return self.fleet.start("", **{**own, **settings})


def refusal(status: int, code: int, name: str, text: str = "as the test wishes") -> Answer:
    """Return an answer as ClickHouse words it."""
    body = f"Code: {code}. DB::Exception: {text}. ({name}) (version 26.9.1.1)\n"
    return Answer(status, {"X-ClickHouse-Exception-Code": str(code)}, body.encode())


def page(status: int, **headers: str) -> Answer:
    """Return what some other server on the way answers."""
    body = b"<html><body><h1>Code: 27. DB::Exception: this is nobody you know</h1></body></html>"
    return Answer(status, {"Content-Type": "text/html", **headers}, body)
