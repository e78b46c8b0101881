"""What threads finish and coroutines await: nobody is forgotten, and a burst wakes the loop once."""

import asyncio
import threading

import pytest

from ingest.publishing.completion import Bring, Completion, LoopWaker


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread wakes it."""

    wakes = 0

    def call_soon_threadsafe(self, *args, **kwargs):  # type: ignore[no-untyped-def, override]  # noqa: ANN002, ANN003, ANN201  (asyncio's signature)
        """Count."""
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **kwargs)


def set_all(completions: list[Completion]) -> threading.Thread:
    """Set them in another thread, which is returned."""

    def work() -> None:
        for completion in completions:
            completion.set()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_burst_wakes_the_loop_once() -> None:
    """Five hundred requests wait, and all are done before the loop comes round."""

    async def scene(loop: CountingLoop) -> list[bool]:
        completions = [Completion() for _ in range(500)]
        waiting = [asyncio.create_task(completion.wait(10)) for completion in completions]
        await asyncio.sleep(0)
        loop.wakes = 0
        set_all(completions).join()
        found = await asyncio.gather(*waiting)
        assert loop.wakes == 1
        late = Completion()
        waiting = [asyncio.create_task(late.wait(3600))]
        await asyncio.sleep(0)
        set_all([late])
        assert await waiting[0]
        return found

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        assert runner.run(scene(loop)) == [True] * 500


@pytest.mark.parametrize("bring", [None, lambda: None])
def test_the_time_is_over(bring: Bring | None) -> None:
    """What never comes is waited for so long, and again; what came meanwhile is there."""

    async def scene() -> None:
        completion = Completion()
        assert not await completion.wait(0.001, bring)
        assert not await completion.wait(0.001, bring)
        completion.set()
        assert await completion.wait(10, bring)

    asyncio.run(scene())


def test_a_wait_ends_although_what_it_calls_fails() -> None:
    """It is called again, and what came is told."""
    calls: list[int] = []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        completion = Completion()

        def bring() -> None:
            calls.append(1)
            if len(calls) == 2:
                completion.set()
            raise RuntimeError

        assert await completion.wait(10, bring)
        assert not await Completion().wait(0.001, bring)

    asyncio.run(asyncio.wait_for(scene(), 5))


def test_what_the_loop_brings_wakes_no_loop_and_leaves_nothing_behind() -> None:
    """It is resolved in the same tick, and so are the waits before it."""

    async def scene(loop: CountingLoop) -> None:
        completions = [Completion() for _ in range(100)]

        def bring() -> None:
            for completion in completions:
                completion.set()

        loop.wakes = 0
        assert all(await asyncio.gather(*(completion.wait(3600, bring) for completion in completions)))
        await asyncio.sleep(0.01)
        assert loop.wakes == 0
        assert LoopWaker.running()._waits == []  # noqa: SLF001  (only memory tells)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        runner.run(scene(loop))


def test_each_wait_ends_in_its_own_time() -> None:
    """Whatever others still wait for: those that began before it, and those that have ended."""

    async def scene() -> None:
        long, short, done = Completion(), Completion(), Completion()
        waits = [asyncio.create_task(long.wait(1e12, lambda: None))]
        waits += [asyncio.create_task(each.wait(1e9, lambda: None)) for each in (done, short, Completion())]
        await asyncio.sleep(0)
        done.set()
        assert await waits[1]
        assert await asyncio.gather(*waits[2:]) == [False, False]
        assert not waits[0].done()
        long.set()
        assert await waits[0]

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(scene())


def test_the_first_one_forgets_nobody() -> None:
    """Set before, while and after somebody begins to wait, from another thread."""

    async def scene() -> None:
        completions = [Completion() for _ in range(2000)]
        reports = set_all(completions)
        assert all([await completion.wait(10) for completion in completions])
        reports.join()

    asyncio.run(scene())


class LateLoop(asyncio.SelectorEventLoop):
    """Lets something be finished at the worst of times: while somebody prepares to wait for it."""

    late: Completion | None = None

    def create_future(self) -> "asyncio.Future[None]":
        """Finish it."""
        if self.late is not None:
            late, self.late = self.late, None
            late.set()
        return super().create_future()


def test_what_is_set_while_somebody_prepares_to_wait_is_not_waited_for() -> None:
    """The thread saw nobody, and the coroutine looks once more."""

    async def scene(loop: LateLoop) -> bool:
        loop.late = completion = Completion()
        return await completion.wait(3600)

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LateLoop)
        assert runner.run(scene(loop))


def test_a_thread_may_wait_instead() -> None:
    """As the drainer of the spool does."""
    late, done = Completion(), Completion()
    done.set()
    threading.Timer(0.01, late.set).start()

    assert done.wait_in_thread(0)
    assert late.wait_in_thread(10)
    assert not Completion().wait_in_thread(0)


def test_a_loop_that_is_over_hears_no_more() -> None:
    """The end of a process must not fail because of somebody who waited."""

    async def scene() -> LoopWaker:
        waker = LoopWaker.running()
        assert LoopWaker.running() is waker
        return waker

    waker = asyncio.run(scene())
    waker.resolve(waker.loop.create_future())


class FastLoop(asyncio.SelectorEventLoop):
    """Its time flies, so that no timer is waited for."""

    now_s = 0.0

    def time(self) -> float:
        """Return a later moment each time."""
        self.now_s += 1000
        return self.now_s


def test_the_loop_calls_what_brings_completions_while_somebody_waits_for_it() -> None:
    """In its own thread, for several requests at once, and no more afterwards."""
    calls: list[int] = []

    async def scene() -> None:
        first, second = Completion(), Completion()

        def bring() -> None:
            calls.append(threading.get_ident())
            if len(calls) > 2:
                (second if first.is_set else first).set()

        assert all(await asyncio.gather(first.wait(1e12, bring), second.wait(1e12, bring)))
        made = len(calls)
        await asyncio.sleep(500)  # less than a step
        assert len(calls) == made
        again = Completion()
        assert await again.wait(1e12, again.set)

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(scene())
    assert len(calls) >= 4
    assert set(calls) == {threading.get_ident()}
