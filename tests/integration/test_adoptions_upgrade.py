"""Adoptions that an earlier release has noted in `audits` are known after the upgrade."""

import time

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import migrate, migrations
from consumer.delivery.ports import Partition
from consumer.operations.audit import Auditor

_NOTED = """
INSERT INTO audits (audited_at, audited_by, topic, topic_id, partition, low, end)
VALUES (now64(3), '{by}', 'events', 'copy', 0, 0, {end})
"""


def test_what_an_earlier_release_has_adopted_is_still_adopted(empty_database: Connection) -> None:
    """Else audits would miss all that was inserted as the original's."""
    before = [migration for migration in migrations() if migration.name < "0011"]
    migrate(empty_database, before, time.sleep)
    for by, end in (("adopt", 7), ("worker", 9)):
        empty_database.command(_NOTED.format(by=by, end=end))

    migrate(empty_database, migrations(), time.sleep)
    migrate(empty_database, migrations(), time.sleep)

    assert Auditor(empty_database, {"events": "events"}, None).adopted() == {(Partition("events", 0), "copy"): 7}
    assert empty_database.query("SELECT count() AS n FROM adoptions") == [{"n": 1}]
