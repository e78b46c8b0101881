"""The tables: schemas/clickhouse/*.sql, applied in the order of their names; every statement may be repeated."""

import re
from importlib.resources import files

from clickhouse_connect.driver.exceptions import ClickHouseError

from consumer.clickhouse import Connection, translate


def statements() -> list[tuple[str, list[str]]]:
    """Return each migration's name and statements, in order."""
    sources = sorted((file.name, file.read_text("utf-8")) for file in files("schemas").joinpath("clickhouse").iterdir())
    return [(name, split(text)) for name, text in sources if name.endswith(".sql")]


def split(text: str) -> list[str]:
    """Split a script at the semicolons that end a line; comments of whole lines are left out."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [part.strip() for part in re.split(r";\s*(?:\n|$)", code) if part.strip()]


def migrate(connection: Connection, database: str) -> list[str]:
    """Create the database and apply every migration; return the names applied.

    Raises:
        Transient, Fatal: the server is away, or refuses a statement.
    """
    client = connection.client()
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}", use_database=False)
        for _, parts in statements():
            for part in parts:
                client.command(part)
    except ClickHouseError as error:
        raise translate(error) from error
    return [name for name, _ in statements()]
