"""An empty coroutine on headrace's own server: it reads a request's body and answers 201.

What a request costs here, it costs at least anywhere on this server. Run by `python -m bench.ingress`.
"""

import asyncio
import socket
import sys

import uvloop

from ingest.http.body import Stream
from ingest.http.message import Answer, RequestHead
from ingest.server.server import LoopServer

_CONNECTIONS_MAX = 20_000
_SWEEP_S = 0.3


async def answer(_: RequestHead, stream: Stream) -> Answer:
    """Read the body, and answer."""
    while await stream.read(65_536):
        pass
    return Answer(201, b"[]")


async def main() -> None:
    """Serve on the port that is the first argument, until somebody ends this process."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2048)
    listener.setblocking(False)  # noqa: FBT003  (the socket's signature)
    server = LoopServer(answer, _CONNECTIONS_MAX, 30.0, 75.0)
    server.start([listener])
    while True:
        await asyncio.sleep(_SWEEP_S)
        server.sweep()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
