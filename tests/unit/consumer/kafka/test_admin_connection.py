"""One admin client for a process: when it is replaced, and what it says of its last trouble."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumer.kafka import admin_connection
from consumer.kafka.admin_connection import AdminConnection


class Client:
    """An admin client that says what a test lets it say while it is polled."""

    def __init__(self, _: object, error_cb: Callable[[KafkaError], None], **__: object) -> None:
        self._say = error_cb
        self.errors: list[int] = []

    def poll(self, _: float) -> None:
        """Say it."""
        for code in self.errors:
            self._say(KafkaError(code))


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> AdminConnection:
    """A connection over such clients."""
    monkeypatch.setattr(admin_connection, "AdminClient", Client)
    return AdminConnection({})


def test_two_questions_without_an_answer_replace_one_client(admin: AdminConnection) -> None:
    """The second one learns of it when the new client is already there, which stays."""
    old = admin.client
    admin.renew(old)
    new = admin.client
    admin.renew(old)

    assert (new is old, admin.client is new) == (False, True)


def test_a_connections_trouble_is_told_once(admin: AdminConnection) -> None:
    """That all brokers are down is no cause; what went wrong with one of them before is."""
    client: Any = admin.client
    client.errors = [KafkaError._SSL, KafkaError._ALL_BROKERS_DOWN]  # noqa: SLF001  (their public names)
    told = admin.take_trouble()
    client.errors = []

    assert told is not None
    assert told.code() == KafkaError._SSL  # noqa: SLF001  (as above)
    assert admin.take_trouble() is None
