"""Which bodies are processed in a thread, and what happens when there is none left."""

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ingest.http.endpoints import INLINE_BYTES_MAX
from tests.support.front import Shelf, front

SMALL = json.dumps({"messageBody": [{"eventType": "VIEW"}]}).encode()
LARGE = json.dumps({"messageBody": [{"eventType": "VIEW", "x": "y" * INLINE_BYTES_MAX}]}).encode()


class Counting(ThreadPoolExecutor):
    """Threads that count their jobs."""

    jobs = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Count a job and start it."""
        self.jobs += 1
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def threads() -> Iterator[Counting]:
    """One thread."""
    with Counting(1) as started:
        yield started


@pytest.mark.parametrize(
    ("body", "encoding", "jobs"), [(SMALL, "", 0), (LARGE, "", 1), (gzip.compress(SMALL), "gzip", 1)]
)
def test_large_and_compressed_bodies_go_to_a_thread(threads: Counting, body: bytes, encoding: str, jobs: int) -> None:
    """A compressed body is small only until it is inflated."""
    shelf = Shelf()
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": encoding} if encoding else {})

    answer = front(shelf, threads=threads).test_client().post("/collect/event", data=body, headers=headers)

    assert (answer.status_code, len(shelf.events), threads.jobs) == (201, 1, jobs)


def test_a_body_that_comes_after_the_threads_have_ended_is_to_be_sent_again(threads: Counting) -> None:
    """The process is shutting down, which is no defect."""
    shelf = Shelf()
    client = front(shelf, threads=threads).test_client()
    threads.shutdown()

    answer = client.post("/collect/event", data=LARGE, headers={"Content-Type": "application/json"})

    assert (answer.status_code, shelf.requests) == (503, [])
    assert int(answer.headers["Retry-After"]) > 0
