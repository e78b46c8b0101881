from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ingest.events.client_counters import Kind
from ingest.events.fields import Reader

class Rule:
    def __init__(
        self, kind: str, piece: int, reader: Reader, bounds: tuple[int, int], words: frozenset[str]
    ) -> None: ...

class Layout:
    def __init__(
        self,
        blanks: list[str | bytes | None],
        rules: Mapping[str, Rule],
        places: Sequence[int],
        keys: tuple[int, ...],
        required: tuple[int, ...],
        bounds: tuple[int, int, int],
        encode: Callable[[Any], bytes],
    ) -> None: ...

class PlainWriter:
    def __init__(
        self,
        layout: Layout,
        shared: Sequence[bytes],
        agent: str,
        times: tuple[int, int, int],
        fresh_ids: Iterator[str] | None,
    ) -> None: ...
    def write(self, raw: Any) -> tuple[str, Kind, bytes, bytes] | None: ...
