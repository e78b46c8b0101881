"""Records on their way to the broker, and what became of each."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from confluent_kafka import KafkaError, Producer

from ingest.publishing.completion import Completion
from ingest.publishing.ports import DeliveryStatus
from ingest.publishing.reports import Reports

# The broker refuses these records for good; after other errors (away, too few replicas, not allowed) a retry may work.
_REFUSALS: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class Delivery(Reports):
    """Records on their way; `producer` is the one that has them."""

    def __init__(
        self,
        count: int,
        on_end: Callable[["Delivery"], None],
        poll: Callable[[], None],
        on_missing_offset: Callable[[], None],
    ) -> None:
        Reports.__init__(self, count, status_of, on_missing_offset)
        self.producer: Producer
        self.count = count
        self._on_end = on_end
        self._poll = poll
        self._end = Completion()

    def wait(self, timeout_s: float) -> Coroutine[Any, Any, bool]:
        """Wait in a coroutine; False when the time is over before every record has its status."""
        return self._end.wait(timeout_s, self._poll)

    def wait_in_thread(self, timeout_s: float) -> bool:
        """Wait in a thread; False when the time is over before every record has its status."""
        return self._end.wait_in_thread(timeout_s)

    def ended(self) -> None:
        """Tell its sender, and those who wait."""
        self._on_end(self)
        self._end.set()


def status_of(error: KafkaError) -> DeliveryStatus:
    """Translate a delivery report's error; `retriable()` is no help: it is False for a timeout."""
    return DeliveryStatus.REFUSED if error.code() in _REFUSALS else DeliveryStatus.FAILED
