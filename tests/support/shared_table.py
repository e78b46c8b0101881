"""A table in the test's process that worker processes insert into: tokens count once, rows are only ever added."""

import json
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from consumer.delivery.ports import Block, Partition, Poison, Record
from consumer.errors import Transient

_ANSWER_S = 10.0


class Applied(NamedTuple):
    """One block that was new to the table."""

    at_s: float  # monotonic, one clock for all processes of a machine
    member: str
    number: int  # of the partition
    token: str


class SharedTable:
    """What was inserted: `rows` by partition number and offset, `applied` in order."""

    def __init__(self) -> None:
        self.rows: Counter[tuple[int, int]] = Counter()
        self.applied: list[Applied] = []
        self._tokens: set[str] = set()
        self._lock = threading.Lock()

    def insert(self, member: str, token: str, offsets: Sequence[int]) -> None:
        """Apply a block, unless its token is known."""
        with self._lock:
            if token not in self._tokens:
                self._tokens.add(token)
                number = int(token.rsplit("/", 6)[1])  # from the right: ids hold slashes; Intent.token has the layout
                self.applied.append(Applied(time.monotonic(), member, number, token))
                self.rows.update((number, offset) for offset in offsets)

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Take blocks from other processes, on the port that is the value."""
        table = self

        class Call(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline()
                if line.endswith(b"\n"):
                    table.insert(**json.loads(line))
                    with suppress(OSError):  # a killed worker takes no answer
                        self.wfile.write(b"done\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        with Server(("127.0.0.1", 0), Call) as server:
            serving = threading.Thread(target=server.serve_forever, args=(0.05,), name="table")
            serving.start()
            try:
                yield int(server.server_address[1])
            finally:
                server.shutdown()
                serving.join()


class RemoteTable:
    """Implements `Table` and `Mender` in a worker process."""

    def __init__(self, port: int, member: str) -> None:
        self._port = port
        self._member = member

    def insert(self, block: Block) -> None:
        """Insert a block and wait for the answer."""
        call = {"member": self._member, "token": block.token, "offsets": block.offsets}
        try:
            with socket.create_connection(("127.0.0.1", self._port), _ANSWER_S) as connection:
                connection.sendall(json.dumps(call).encode() + b"\n")
                answer = connection.recv(16)
        except OSError as error:
            raise Transient("the table is away") from error
        if answer != b"done\n":
            raise Transient("no answer")

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return 0: a group that starts again has its own table."""
        del partition, topic_id, reading
        return 0

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
        """Return none: this table refuses nothing."""
        del block, refusal, records
        return []

    def repair(self, block: Block, records: Sequence[Record]) -> int:
        """Put back nothing: this table loses no rows."""
        del block, records
        return 0

    def is_under_way(self, block: Block) -> bool:
        """Say no: this table answers when it is done."""
        del block
        return False
