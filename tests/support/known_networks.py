"""A few networks of known countries, for the views' column country."""

from typing import Final

from consumer.clickhouse.client import Connection
from tests.support.clickhouse import PASSWORD, USER

NETWORKS: Final = (("0.0.0.0/2", "DE"), ("64.0.0.0/2", "IN"), ("64.0.0.0/4", "FR"))
"""Which country a network is of; of the other half of all addresses nothing is known."""


def country_of(ip: str) -> str:
    """Return the country of the smallest of NETWORKS that has the address."""
    high = int(ip.partition(".")[0])
    if high < 64:
        return "DE"
    if high < 80:
        return "FR"
    return "IN" if high < 128 else ""


def know_countries(database: Connection) -> None:
    """Fill the table of networks, and make the dictionary over it; the views show it when they are made again."""
    rows = ", ".join(f"('{network}', '{country}')" for network, country in NETWORKS)
    database.command(f"INSERT INTO networks VALUES {rows}")
    source = f"HOST '127.0.0.1' USER '{USER}' PASSWORD '{PASSWORD}' DB '{database.database}' TABLE 'networks'"
    database.command(
        "CREATE DICTIONARY countries (network String, country String) PRIMARY KEY network"
        f" SOURCE(CLICKHOUSE({source})) LAYOUT(IP_TRIE()) LIFETIME(0)"
    )
