"""Which country an address is of: nothing until networks are loaded, and nothing breaks when they can't be."""

import time

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.countries import load_countries
from consumer.clickhouse.migrations import migrate, migrations
from consumer.clickhouse.products import make_products
from consumer.errors import Fatal
from tests.support.known_networks import know_countries
from tests.support.migrated import make_tables

_OF_EACH = "SELECT ip, country FROM events_ready ORDER BY ip"


@pytest.fixture
def views(empty_database: Connection) -> Connection:
    """The views over an event of each kind of address."""
    make_tables(empty_database)
    make_products(empty_database, "UTC", time.sleep)
    for ip in ("", "10.1.2.3", "70.0.0.0", "200.1.1.1", "::ffff:65.1.1.1", "2001:db8::1", "no address"):
        empty_database.command(
            "INSERT INTO events (event_id, event_type, ip) SELECT generateUUIDv4(), 'VIEW', {ip:String}", {"ip": ip}
        )
    return empty_database


def test_nothing_has_a_country_until_networks_are_loaded(views: Connection) -> None:
    """The views have the column, and ask no dictionary."""
    assert {row["country"] for row in views.query(_OF_EACH)} == {""}


def test_an_address_has_the_country_of_its_smallest_network(views: Connection) -> None:
    """Of either version, written in either way; one that is none, or of no network, has none. `migrate` keeps that."""
    know_countries(views)
    views.command("INSERT INTO networks VALUES ('2001:db8::/32', 'JP')")
    views.command(f"SYSTEM RELOAD DICTIONARY {views.database}.countries")
    for _ in range(2):
        migrate(views, migrations(), time.sleep)
        make_products(views, "UTC", time.sleep)

    assert {row["ip"]: row["country"] for row in views.query(_OF_EACH)} == {
        "": "",
        "10.1.2.3": "DE",
        "70.0.0.0": "FR",
        "200.1.1.1": "",
        "::ffff:65.1.1.1": "FR",
        "2001:db8::1": "JP",
        "no address": "",
    }


def test_a_dictionary_that_can_not_be_loaded_is_not_left_behind(views: Connection) -> None:
    """Its account may read the database headrace alone: the sentence says what is missing, and views go on."""
    with pytest.raises(Fatal, match=r"can't load the dictionary countries: .*headrace_countries.*roles.sql"):
        load_countries(views, [("10.0.0.0/8", "DE")])
    make_products(views, "UTC", time.sleep)

    assert {row["country"] for row in views.query(_OF_EACH)} == {""}
    assert views.query("SELECT name FROM system.dictionaries WHERE database = currentDatabase()") == []
    assert views.query("SELECT name FROM system.tables WHERE name LIKE 'networks_mend_%'") == []
