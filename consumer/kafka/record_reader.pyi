from collections.abc import Callable
from typing import Any, TypeAlias

from confluent_kafka import Message

from consumer.delivery.ports import Partition, Record

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

def read(
    messages: list[Message],
    start: int,
    records: list[Record],
    place_of: Callable[[str | None, int | None], Partition],
    ask_headers: Callable[[Message], Any],
    headers_of: Callable[[Any], Headers],
    unreadable: Headers,
) -> int: ...
