"""Browser, system and bots by the User-Agent: user_agents.tsv has what devices, apps, bots and tools really send."""

import csv
import json
from pathlib import Path
from typing import Any

from consumer.clickhouse.client import ExternalTable
from consumer.clickhouse.products import products
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database

FILE = Path(__file__).with_name("user_agents.tsv")
LONGEST = 1024


def test_a_user_agent_tells_browser_system_and_bots(clickhouse: ClickHouse) -> None:
    """A phone is no bot, whatever its maker calls it; a bot is one, whatever phone it claims to be."""
    with FILE.open(encoding="utf-8", newline="") as file:
        agents = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = told_of([agent["User-Agent"] for agent in agents], clickhouse)
    told = {
        row["user_agent"]: (row["agent_browser"], row["agent_system"], "bot" if row["is_bot"] else "") for row in found
    }

    wanted = {agent["User-Agent"]: (agent["browser"], agent["system"], agent["bot"]) for agent in agents}
    assert {agent: (told[agent], one) for agent, one in wanted.items() if told[agent] != one} == {}
    assert len(wanted) == len(agents) > 50


def test_no_more_of_a_user_agent_is_looked_at_than_browsers_send(clickhouse: ClickHouse) -> None:
    """A client may send as much as a request holds, and every question about bots looks at it."""
    within, beyond = "x" * (LONGEST - 10) + " Googlebot", "x" * (LONGEST - 5) + " Googlebot"

    told = {row["user_agent"]: row["is_bot"] for row in told_of([within, beyond], clickhouse)}

    assert (told[within], told[beyond]) == (True, False)


def told_of(agents: list[str], clickhouse: ClickHouse) -> list[dict[str, Any]]:
    """Return what the view tells of User-Agents."""
    (text, _) = products("UTC")["events_ready"]
    query = text.partition(" AS\n")[2].replace("    *,\n    toDate(occurred_at, 'UTC') AS day,\n", "    user_agent,\n")
    rows = "\n".join(json.dumps({"user_agent": agent}) for agent in agents)
    beside = ExternalTable("agents", "user_agent String, client_id String", rows.encode(), "JSONEachRow")
    connection = open_database(clickhouse, "")
    found = connection.query(query.replace("FROM events_unique", "FROM agents"), rows=beside)
    connection.close()
    return found
