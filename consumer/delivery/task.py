"""A sealed batch on its way through the steps of the protocol.

stage       means                                       left when
----------  ------------------------------------------  ----------------------------------------------------------
WAITING     sealed, or to be prepared again             it is due -> PREPARING
PREPARING   being screened on the pool;                 prepared -> PREPARED; transient -> WAITING; the topic was
            nothing is written                          recreated -> the partition is given up
AWAITING    replicas are waited for, because an         they have caught up -> PREPARED; transient -> PREPARED, later
            earlier try may have inserted its rows
PREPARED    its intent waits to be committed            an earlier try may have inserted its rows -> AWAITING, each
                                                        time; committed -> INSERTING, or SENDING if its rows are in the
                                                        table; committed so late that replicas must be waited for again
                                                        -> PREPARED, later; fenced -> the partition is given up
INSERTING   a block is sent to the table under its      inserted -> PREPARED if there are more blocks (one per writer
            token                                       schema), because each needs its own commit of the intent;
                                                        else SENDING if it has dead letters, else finished;
                                                        transient -> PREPARED, later: the same bytes again, after its
                                                        intent was committed again, which fences; acknowledged, but
                                                        not to be seen -> PREPARED, later: looked for once more, not
                                                        sent; refused -> WAITING, to be prepared without the poison,
                                                        and smaller if needed and none of it is in the table; too
                                                        large for a proxy, and none of it is in the table -> WAITING,
                                                        to be prepared with half of its records
SENDING     its poison is sent to the dead letters      acknowledged -> finished; transient -> PREPARED, later

Only the head is ever SENDING or INSERTING. When it is made smaller, the task after it is unsealed in any stage: it has
written nothing, and its records wait after the head's remaining ones.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto

from consumer.delivery.batch import Awaited, Batch, Inserted, Prepared, Sent
from consumer.delivery.ports import Block, Poison

Outcome = Prepared | Awaited | Sent | Inserted
Job = Future[Outcome]


class Stage(Enum):
    """The stages of a task; see the module's table."""

    WAITING = auto()
    PREPARING = auto()
    AWAITING = auto()
    PREPARED = auto()
    SENDING = auto()
    INSERTING = auto()


@dataclass(slots=True)
class BatchTask:
    """A sealed batch in progress.

    Attributes:
        batch: the batch; replaced by one whose intent lists the poison.
        is_replay: its range was a predecessor's.
        blocks: its rows, once prepared; they are encoded when they are sent.
        blocks_in: how many of them were acknowledged by the table; they are not sent again.
        refused: the rows that the table refused last, until the next preparation leaves them out.
        refusals: how often the table has refused it.
        letters: poison whose dead letters are not acknowledged yet.
        job: the job running on the pool, if any.
        retry_at_s: no try before this moment (monotonic).
        attempt: failed tries in a row.
        intended: whether its intent has been committed at least once.
        is_untouched: the table has refused it, and no row of it is there; until its intent is committed again.
        is_inserted: whether its rows are in the table.
        is_repeated: whether an earlier insert of it may have reached the server.
        is_unseen: its next block is acknowledged, but replicas did not show all of its rows.
        awaited_until_s: replicas have been waited for, and its next intent must be committed by then (monotonic); None
            before that.
        trouble: why the last try failed; "" when it did not.
        is_too_large: a proxy did not accept it, until the next preparation makes it smaller.
        sealed_at_s: when it was sealed (monotonic); -inf for a predecessor's range.
        too_large_since_s: since when (monotonic) every try was too large; None when the last one was not.
    """

    batch: Batch
    is_replay: bool = False
    stage: Stage = Stage.WAITING
    blocks: tuple[Block, ...] = ()
    blocks_in: int = 0
    refused: tuple[Poison, ...] = ()
    refusals: int = 0
    letters: tuple[Poison, ...] = ()
    job: Job | None = None
    retry_at_s: float = 0.0
    attempt: int = 0
    intended: bool = False
    is_untouched: bool = False
    is_inserted: bool = False
    is_repeated: bool = False
    is_unseen: bool = False
    awaited_until_s: float | None = None
    trouble: str = ""
    is_too_large: bool = False
    too_large_since_s: float | None = None
    sealed_at_s: float = float("-inf")

    @property
    def is_promised(self) -> bool:
        """Whether the group may have its intent: then it can be replaced, but not withdrawn."""
        return self.is_replay or self.intended

    @property
    def is_fixed(self) -> bool:
        """Whether rows of it may be in the table, or still arrive: then its range must not change."""
        return self.is_promised and not self.is_untouched

    def is_ready(self, now_s: float) -> bool:
        """Tell whether its intent can be committed now, and its rows inserted."""
        return self.stage is Stage.PREPARED and now_s >= self.retry_at_s and not self._must_await(now_s)

    def must_await(self, now_s: float) -> bool:
        """Tell whether replicas must be waited for now."""
        return self.stage is Stage.PREPARED and now_s >= self.retry_at_s and self._must_await(now_s)

    def _must_await(self, now_s: float) -> bool:
        if not self.is_repeated or self.blocks_in == len(self.blocks):
            return False
        return self.awaited_until_s is None or now_s > self.awaited_until_s

    def awaiting(self, job: Job) -> None:
        """Learn that a job waits for replicas."""
        self.stage, self.job = Stage.AWAITING, job

    def awaited(self, outcome: Awaited) -> None:
        """Record that replicas have caught up."""
        self.stage, self.awaited_until_s = Stage.PREPARED, outcome.until_s

    def is_due(self, now_s: float) -> bool:
        """Tell whether it can be prepared now."""
        return self.stage is Stage.WAITING and now_s >= self.retry_at_s

    def preparing(self, job: Job) -> None:
        """Learn that a job prepares it."""
        self.stage, self.job = Stage.PREPARING, job

    def begun(self) -> None:
        """Record that the group has its intent."""
        self.intended, self.is_untouched = True, False
        self.is_inserted = self.blocks_in == len(self.blocks)

    def inserting(self, job: Job) -> None:
        """Learn that a job inserts its next block."""
        self.stage, self.job, self.awaited_until_s = Stage.INSERTING, job, None

    def sending(self, job: Job) -> None:
        """Learn that a job sends its dead letters."""
        self.stage, self.job = Stage.SENDING, job

    def postpone(self, until_s: float, trouble: str = "") -> None:
        """Retry later; a prepared batch commits its intent again first."""
        self.too_large_since_s, self.trouble = None, trouble
        self.is_repeated = self.is_repeated or self.stage is Stage.INSERTING
        self.stage = Stage.WAITING if self.stage is Stage.PREPARING else Stage.PREPARED
        self.retry_at_s = until_s
        self.attempt += 1

    def prepared(self, outcome: Prepared) -> None:
        """Take the result of preparing; of a batch that was refused behind some blocks, those are repeated."""
        self.is_repeated = self.is_repeated or self.blocks_in > 0
        self.batch, self.blocks, self.blocks_in, self.refused = outcome.batch, outcome.blocks, 0, ()
        self.letters, self.trouble = outcome.letters, ""
        self.is_too_large = self.is_unseen = False
        self.stage, self.retry_at_s, self.attempt = Stage.PREPARED, 0.0, 0

    def block_inserted(self) -> None:
        """Learn that a block is in the table; the next one goes through the intent again."""
        self.blocks_in += 1
        self.is_unseen, self.trouble = False, ""
        self.stage, self.attempt, self.too_large_since_s = Stage.PREPARED, 0, None
        self.is_inserted = self.blocks_in == len(self.blocks)

    def postpone_too_large(self, now_s: float, until_s: float, trouble: str) -> None:
        """Retry later: the proxy passed nothing on this time, but an earlier try may still arrive."""
        since_s = self.too_large_since_s
        self.postpone(until_s, trouble)
        self.too_large_since_s = now_s if since_s is None else since_s

    def was_too_large(self) -> None:
        """Record that no row of it is in the table or can still arrive; half of it is tried next."""
        self.is_too_large = self.is_untouched = True
        self.is_repeated, self.too_large_since_s = False, None
        self.stage, self.attempt = Stage.WAITING, 0

    def was_refused(self, outcome: Inserted) -> None:
        """Record the rows that the table refused."""
        self.refused, self.is_untouched = outcome.refused, outcome.is_untouched
        self.stage, self.attempt, self.refusals, self.trouble = Stage.WAITING, 0, self.refusals + 1, ""
