"""What an operator does to a group that is stopped, over the fakes: the plans of the commands, carried out."""

from consumer.delivery.intent import Intent, decode
from consumer.delivery.ports import Partition
from consumer.operations.facts import Facts, Plan
from consumer.operations.plans import reprocess, resume
from tests.support.fake_group import TOPIC, FakeBroker
from tests.support.fake_table import FakeLetters, FakeTable


def facts_of(broker: FakeBroker, table: FakeTable, number: int = 0, letters: FakeLetters | None = None) -> Facts:
    """Return what the commands would find out."""
    place = Partition(TOPIC, number)
    log, mark = broker.logs[place], broker.marks.get(place)
    intent = decode(mark.metadata) if mark else None
    before = decode(intent.detour.metadata) if intent and intent.detour else None
    kept, kept_before = (_kept(broker, table, number, promised, letters) for promised in (intent, before))
    readings = table.readings(place, broker.topic_id)
    return Facts(place, broker.topic_id, log.low, log.end, mark, readings, kept, kept_before)


def _kept(
    broker: FakeBroker, table: FakeTable, number: int, intent: Intent | None, letters: FakeLetters | None
) -> frozenset[int]:
    if intent is None or not intent.is_range:
        return frozenset()
    rows = table.offsets(Partition(TOPIC, number), broker.topic_id, intent.reading)
    keys = {offset: broker.key(number, offset, max(0, intent.leader_epoch)) for offset in range(intent.a, intent.b)}
    sent = letters.sent if letters else {}
    suffix = f"#{intent.reading}" if intent.reading else ""
    return frozenset(
        offset
        for offset, key in keys.items()
        if (offset in rows and table.rows[key + suffix]) or (offset in intent.excluded and key in sent)
    )


def resumed(broker: FakeBroker, table: FakeTable, number: int = 0, letters: FakeLetters | None = None) -> Plan:
    """Carry out `resume --go` for a partition."""
    facts = facts_of(broker, table, number, letters)
    return _carried_out(broker, resume(facts, broker.logs[facts.partition].record_at))


def reprocessed(broker: FakeBroker, table: FakeTable, first: int, stop: int | None = None, number: int = 0) -> Plan:
    """Carry out `reprocess --go` for a partition."""
    facts = facts_of(broker, table, number)
    return _carried_out(broker, reprocess(facts, first, stop, broker.logs[facts.partition].record_at))


def _carried_out(broker: FakeBroker, plan: Plan) -> Plan:
    if plan.mark is not None:
        broker.marks[plan.partition] = plan.mark
    return plan
