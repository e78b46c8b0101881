"""Creates the views that analysts read, schemas/clickhouse/views/*.sql, again at every `migrate`.

They hold no rows, so a change of the time zone, or another release, replaces them. `{time_zone}` in their text is
the business's time zone; `{country}` is the lookup of an event's address, "" while there is no dictionary to ask.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import comment_views, patiently, split

_FIRST: Final = ("events_ready", "misfits")
"""The views that others read, so they are created first."""
_THERE: Final = "SELECT name FROM system.tables WHERE database = currentDatabase()"
COUNTRIES: Final = "countries"
"""The dictionary from networks to countries, see clickhouse/countries.py."""
_NO_COUNTRY: Final = "''"
# Its name is full: a view's dictionary is looked for in the reader's database.
_COUNTRY: Final = "dictGetOrDefault('{database}.countries', 'country', tuple(toIPv6OrDefault(ip)), '')"


def products(time_zone: str, country: str = _NO_COUNTRY) -> dict[str, list[str]]:
    """Return the statements of each view by its name, in the order in which they are created.

    `country` is the expression for an event's country.
    """
    folder = files("schemas").joinpath("clickhouse", "views")
    texts = {file.name.removesuffix(".sql"): file.read_text("utf-8") for file in folder.iterdir()}
    return {
        name: split(texts[name].replace("{time_zone}", time_zone).replace("{country}", country))
        for name in (*_FIRST, *sorted(texts.keys() - set(_FIRST)))
    }


def make_products(connection: Connection, time_zone: str, wait: Callable[[float], object]) -> list[str]:
    """Create or replace every view; return a sentence for each that was missing.

    Raises:
        Transient: the server stays away.
        Fatal: it refuses a statement: it does not know the time zone, or a table of the view's name is there.
    """
    there = {row["name"] for row in connection.query(_THERE)}
    is_known = COUNTRIES in there
    wanted = products(time_zone, _COUNTRY.format(database=connection.database) if is_known else _NO_COUNTRY)
    for statement in (statement for statements in wanted.values() for statement in statements):
        patiently(lambda statement=statement: connection.define(statement), wait)  # type: ignore[misc]  # bound now, not late
    patiently(lambda: comment_views(connection), wait)
    return [f"the view {name} was created" for name in wanted if name not in there]
