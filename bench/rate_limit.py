"""What the rate limit costs a request: in memory, over a store, and over a store that does not answer.

    .venv/bin/python bench/rate_limit.py

Starts Debian's redis-server on a free port. Prints the time and the processor time of one admission.
"""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Final

from ingest.access.control import AccessControl
from ingest.access.rate_limit import Allowance, Claim, LocalLimiter, RateLimiter
from ingest.access.rate_limit_redis import SharedLimiter, open_store
from ingest.ports import NoMetrics
from schemas.transport.access import Access

TIMES: Final = 20_000
TOGETHER: Final = 8


async def measure(name: str, limiter: RateLimiter | None, times: int = TIMES) -> None:
    """Admit requests one after the other and print what each took."""
    gate = AccessControl(None, limiter, Allowance(10**9, 10**9, 10**12))
    took_us: list[float] = []
    cpu_s = time.thread_time()
    for number in range(times):
        begin_s = time.perf_counter()
        await gate.admit("", "", f"192.0.2.{number % 250}", time.time())
        took_us.append((time.perf_counter() - begin_s) * 1e6)
    cpu_us = (time.thread_time() - cpu_s) * 1e6 / times
    cuts = quantiles(took_us, n=100)
    print(f"{name:34} p50 {cuts[49]:7.1f} us  p99 {cuts[98]:7.1f} us  max {max(took_us):8.0f} us  cpu {cpu_us:6.1f} us")


async def measure_together(name: str, limiter: RateLimiter) -> None:
    """Admit requests from several coroutines at once and print how many a second there were."""
    gate = AccessControl(None, limiter, Allowance(10**9, 10**9, 10**12))
    each = TIMES // TOGETHER

    async def admit() -> None:
        for number in range(each):
            await gate.admit("", "", f"192.0.2.{number % 250}", time.time())

    begin_s = time.perf_counter()
    await asyncio.gather(*(admit() for _ in range(TOGETHER)))
    print(f"{name:34} {each * TOGETHER / (time.perf_counter() - begin_s):7.0f} a second from {TOGETHER} coroutines")


async def with_store(use: Callable[[SharedLimiter, "subprocess.Popen[bytes]"], Awaitable[None]]) -> None:
    """Run a store, and something with it."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("no redis-server on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as store:  # noqa: ASYNC220  (it starts at once)
        try:
            client, options = open_store(Access(f"redis://127.0.0.1:{port}"), 0.005)
            limiter = SharedLimiter(client, "bench:", 60, NoMetrics(), options)
            for _ in range(100):  # until it is up
                (window,) = await limiter.hit([Claim("warm", Allowance(1))], time.time())
                if window.requests:
                    break
                await asyncio.sleep(0.1)
            await use(limiter, store)
        finally:
            store.send_signal(signal.SIGCONT)
            store.terminate()


async def measure_store(limiter: SharedLimiter, store: "subprocess.Popen[bytes]") -> None:
    """Measure a store that answers, and one that does not."""
    await measure("store on this machine", limiter)
    await measure_together("store on this machine", limiter)
    store.send_signal(signal.SIGSTOP)
    await measure("store frozen, all requests", limiter)


async def main() -> None:
    """Measure all of them."""
    await measure("no limit", None)
    await measure("in memory", LocalLimiter(60))
    await measure_together("in memory", LocalLimiter(60))
    await with_store(measure_store)


if __name__ == "__main__":
    asyncio.run(main())
