"""A broker in memory for tests of what stands before it; its clock moves only while somebody waits."""

from collections.abc import Callable, Sequence

from ingest.errors import ErrorCode, Rejected
from ingest.publishing.ports import DeliveryStatus, Record


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        """Start at 1000 s."""
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class FakeSending:
    """Records whose fates are known `after_s` from the start on."""

    def __init__(self, fates: list[DeliveryStatus], clock: Clock, after_s: float) -> None:
        """Know the fates, and when to tell them."""
        self._fates = fates
        self._clock = clock
        self._at_s = clock.now_s + after_s
        self.is_purged = False

    async def wait(self, timeout_s: float) -> bool:
        """Let the time pass."""
        return self.wait_in_thread(timeout_s)

    def wait_in_thread(self, timeout_s: float) -> bool:
        """Let the time pass."""
        if self.is_purged:
            return True
        self._clock.now_s = min(self._clock.now_s + timeout_s, max(self._at_s, self._clock.now_s))
        return self._clock.now_s >= self._at_s

    def statuses(self) -> list[DeliveryStatus]:
        """Return what is known by now."""
        if self._clock.now_s >= self._at_s:
            return self._fates
        return [DeliveryStatus.FAILED if self.is_purged else DeliveryStatus.UNKNOWN] * len(self._fates)


class FakeBroker:
    """Acknowledges everything at once, unless the test says otherwise.

    Attributes:
        log: what arrived, in order.
        judge: gives each record its fate; `judge_all` gives those sent together theirs.
        after_s: how long an acknowledgement takes.
        is_there: what `answers` says.
        size_max: `check` rejects larger values.
        purges: how often it was told to give up.
        renewals: how often it was told to replace its producer.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        """Be well."""
        self.clock = clock or Clock()
        self.log: list[Record] = []
        self.batches: list[int] = []
        self.judge: Callable[[Record], DeliveryStatus] = lambda _: DeliveryStatus.DELIVERED
        self.judge_all: Callable[[Sequence[Record]], list[DeliveryStatus]] = lambda records: [
            self.judge(r) for r in records
        ]
        self.after_s = 0.005
        self.is_there = True
        self.size_max = 1000
        self.purges = 0
        self.renewals = 0
        self._on_way: list[FakeSending] = []

    def check(self, records: Sequence[Record]) -> None:
        """Reject what is too large."""
        if any(len(record.value) > self.size_max for record in records):
            raise Rejected(ErrorCode.TOO_LARGE, "too large")

    def send(self, records: Sequence[Record]) -> FakeSending:
        """Take records."""
        fates = self.judge_all(records)
        self.batches.append(len(records))
        self.log.extend(record for record, fate in zip(records, fates, strict=True) if fate is DeliveryStatus.DELIVERED)
        sending = FakeSending(fates, self.clock, self.after_s)
        self._on_way.append(sending)
        return sending

    def renew(self) -> None:
        """Count a renewal."""
        self.renewals += 1

    def purge(self) -> None:
        """Let everybody who waits hear that it failed."""
        self.purges += 1
        for sending in self._on_way:
            sending.is_purged = True

    def answers(self, timeout_s: float) -> bool:
        """Say whether it is there; a broker that is not takes the whole timeout."""
        self.clock.now_s += 0 if self.is_there else timeout_s
        return self.is_there


def event(number: int, key: str = "k", size: int = 0) -> Record:
    """Return a record that is told from others by its value."""
    return Record(key.encode(), f"{number}".encode().ljust(size, b"."), (("traceparent", b"t"),))
