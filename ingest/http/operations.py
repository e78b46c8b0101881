"""Which port answers which route, when there is a separate port for operations."""

from typing import Final

METRICS: Final = "/metrics"
_OPERATIONS: Final = frozenset({METRICS, "/healthz", "/readyz"})


class OperationsPort:
    """Tells whether a path is served on a port.

    The operations port serves /metrics and the probes, and nothing else; all other ports serve all but /metrics: a
    load balancer probes the port that it sends to. Every worker process listens on both.

    Args:
        port: the operations port; 0 when there is none, and every port serves everything.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = str(port) if port else ""

    def serves(self, path: str, port: str) -> bool:
        """Tell whether a request for a path may come in on this port."""
        if not self._port:
            return True
        return path in _OPERATIONS if port == self._port else path != METRICS
