"""One admin client for all of a process's questions to the cluster, replaced when it has no answer.

An admin client that has lost its controller node may keep asking that node for minutes; so a client without an answer
is replaced, and the next call uses the new one.
"""

import threading
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, libversion
from confluent_kafka.admin import AdminClient

from consumer.kafka.properties import REPORTING

LIBRARY_VERSION: Final = str(libversion()[0])
"""Of librdkafka."""
NO_ANSWER: Final = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001  (their public names)
"""The codes with which a client says that it had no answer."""


class AdminConnection:
    """The present admin client, and its last trouble. Threads share it."""

    def __init__(self, properties: Mapping[str, str | int]) -> None:
        self._properties = properties
        self._lock = threading.Lock()
        self._trouble: KafkaError | None = None
        self._client = self._connect()

    @property
    def client(self) -> AdminClient:
        """The present client. Unpolled, it keeps its messages in memory: see `log_messages`."""
        return self._client

    def log_messages(self) -> None:
        """Let the client log what it has to say, without waiting."""
        self._client.poll(0)

    def renew(self, client: AdminClient) -> None:
        """Learn that a client had no answer. Never call it from a client's own thread: it ends that thread."""
        with self._lock:
            if self._client is client:  # otherwise another thread has replaced it
                self._client = self._connect()

    def take_trouble(self) -> KafkaError | None:
        """Return the last message about a connection, once."""
        self.log_messages()
        trouble, self._trouble = self._trouble, None
        return trouble

    def _connect(self) -> AdminClient:
        return AdminClient({**self._properties}, **{**REPORTING, "error_cb": self._note})

    def _note(self, error: KafkaError) -> None:
        REPORTING["error_cb"](error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  (its public name)
            self._trouble = error
