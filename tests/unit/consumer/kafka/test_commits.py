"""Marks on their way to the group: when they are sent, and which answers count."""

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Answer, CommittedOffset, Partition
from consumer.errors import Fatal, Fenced
from consumer.kafka.commits import Commits

FIRST, SECOND = Partition("events", 0), Partition("events", 1)
MARK, NEXT = CommittedOffset(3, "intent"), CommittedOffset(5, "")


class Wire:
    """Takes what is sent, and brings the answers when told; it may refuse at once."""

    def __init__(self, commits: Commits) -> None:
        self.sent: list[TopicPartition] = []
        self.refusal: int | None = None
        self._commits = commits

    def transmit(self, place: TopicPartition) -> None:
        """Keep it."""
        if self.refusal is not None:
            raise KafkaException(KafkaError(self.refusal))
        self.sent.append(place)

    def answer(self, code: int | None = None) -> None:
        """Answer the oldest."""
        self._commits.answered(KafkaError(code) if code else None, [self.sent.pop(0)])

    @property
    def marks(self) -> list[tuple[Partition, int]]:
        """What has no answer yet."""
        return [(Partition(place.topic, place.partition), place.offset) for place in self.sent]


def made() -> tuple[Commits, Wire]:
    """Return both, empty."""
    commits = Commits()
    return commits, Wire(commits)


def test_marks_wait_until_those_before_them_are_answered() -> None:
    """So that between two rounds there is a moment without any, in which a rebalance can go on."""
    commits, wire = made()
    commits.hold({FIRST: MARK, SECOND: MARK})
    commits.send(wire.transmit)
    wire.answer()
    commits.hold({FIRST: NEXT})
    commits.send(wire.transmit)
    assert wire.marks == [(SECOND, 3)]

    wire.answer()
    commits.send(wire.transmit)

    assert wire.marks == [(FIRST, 5)]
    assert commits.take_answers() == [Answer(FIRST, MARK, None), Answer(SECOND, MARK, None)]
    assert commits.take_answers() == []


def test_a_hand_over_waits_for_nothing() -> None:
    """The last marks go out while the partition is still owned."""
    commits, wire = made()
    commits.hold({FIRST: MARK})
    commits.send(wire.transmit)
    commits.hold({SECOND: MARK})

    commits.send(wire.transmit, at_once=True)

    assert wire.marks == [(FIRST, 3), (SECOND, 3)]


def test_an_answer_that_an_earlier_owner_waited_for_is_none() -> None:
    """The same mark, sent again after the partition came back: only the later answer counts."""
    commits, wire = made()
    commits.hold({FIRST: MARK})
    commits.send(wire.transmit)
    commits.forget([FIRST])
    commits.hold({FIRST: MARK})
    commits.send(wire.transmit)

    wire.answer()
    assert commits.take_answers() == []
    wire.answer(KafkaError.UNKNOWN_MEMBER_ID)

    (answer,) = commits.take_answers()
    assert isinstance(answer.error, Fenced)


def test_answers_and_marks_of_a_partition_that_goes_go_with_it() -> None:
    """Its next owner, who may be the same member, did not ask."""
    commits, wire = made()
    commits.hold({FIRST: MARK, SECOND: MARK})
    commits.send(wire.transmit)
    wire.answer()
    commits.hold({FIRST: NEXT})

    commits.forget([FIRST])
    wire.answer()
    commits.send(wire.transmit)

    assert commits.take_answers() == [Answer(SECOND, MARK, None)]
    assert wire.marks == []


def test_what_can_not_even_be_sent_is_answered_at_once() -> None:
    """Nothing is left waiting for it."""
    commits, wire = made()
    wire.refusal = KafkaError.OFFSET_METADATA_TOO_LARGE
    commits.hold({FIRST: MARK})
    commits.send(wire.transmit)
    wire.refusal = None
    commits.hold({FIRST: NEXT})
    commits.send(wire.transmit)

    (answer,) = commits.take_answers()
    assert isinstance(answer.error, Fatal)
    assert wire.marks == [(FIRST, 5)]
