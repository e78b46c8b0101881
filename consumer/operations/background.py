"""Runs a call on a thread again and again, beside the polling thread."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from consumer.errors import ConsumerError

log = logging.getLogger(__name__)

_LEAVE_S: Final = 5.0


@contextmanager
def in_background(name: str, call: Callable[[], object], every_s: float) -> Iterator[None]:
    """Call every `every_s` seconds until the block is left; 0 means never. A server that is away postpones a call."""
    stop = threading.Event()

    def walk() -> None:
        while not stop.wait(every_s):
            try:
                call()
            except ConsumerError as error:
                log.warning("%s postponed", name, extra={"reason": str(error)[:300]})
            except Exception:  # the thread would end silently; the next call may succeed
                log.exception("unforeseen error in the %s", name)

    thread = threading.Thread(target=walk, name=name, daemon=True)
    if every_s > 0:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join(_LEAVE_S)
