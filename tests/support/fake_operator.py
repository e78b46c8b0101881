"""What an operator does to a group that is stopped, over the fakes: the plans of the commands, carried out."""

from consumer.intent import decode
from consumer.operations.plans import Facts, Plan, reprocess, resume
from consumer.ports import Partition
from tests.support.fake_group import TOPIC, FakeBroker
from tests.support.fake_table import FakeTable


def facts_of(broker: FakeBroker, table: FakeTable, number: int = 0) -> Facts:
    """Return what the commands would find out."""
    place = Partition(TOPIC, number)
    log, mark = broker.logs[place], broker.marks.get(place)
    intent = decode(mark.metadata) if mark else None
    promised = table.offsets(place, broker.topic_id, intent.reading) if intent else frozenset()
    if intent:
        promised = promised & frozenset(range(intent.a, intent.b))
    return Facts(place, broker.topic_id, log.low, log.end, mark, table.readings(place, broker.topic_id), promised)


def resumed(broker: FakeBroker, table: FakeTable, number: int = 0) -> Plan:
    """Carry out `resume --go` for a partition."""
    facts = facts_of(broker, table, number)
    return _carried_out(broker, resume(facts, broker.logs[facts.partition].record_at))


def reprocessed(broker: FakeBroker, table: FakeTable, first: int, stop: int | None = None, number: int = 0) -> Plan:
    """Carry out `reprocess --go` for a partition."""
    facts = facts_of(broker, table, number)
    return _carried_out(broker, reprocess(facts, first, stop, broker.logs[facts.partition].record_at))


def _carried_out(broker: FakeBroker, plan: Plan) -> Plan:
    if plan.mark is not None:
        broker.marks[plan.partition] = plan.mark
    return plan
