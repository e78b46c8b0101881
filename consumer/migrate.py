"""The tables: schemas/clickhouse/*.sql, applied in the order of their names; every statement may be repeated."""

import re
from importlib.resources import files

from consumer.clickhouse import Connection


def statements() -> list[tuple[str, list[str]]]:
    """Return each migration's name and statements, in order."""
    sources = sorted((file.name, file.read_text("utf-8")) for file in files("schemas").joinpath("clickhouse").iterdir())
    return [(name, split(text)) for name, text in sources if name.endswith(".sql")]


def split(text: str) -> list[str]:
    """Split a script at the semicolons that end a line; comments of whole lines are left out."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [part.strip() for part in re.split(r";\s*(?:\n|$)", code) if part.strip()]


def create_database(connection: Connection, database: str) -> None:
    """Create the database, over a connection that is not in it.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    connection.command(f"CREATE DATABASE IF NOT EXISTS {database}")


def migrate(connection: Connection) -> list[str]:
    """Apply every migration; return their names.

    Raises:
        Transient, Fatal: the server is away, or refuses a statement.
    """
    for _, parts in statements():
        for part in parts:
            connection.command(part)
    return [name for name, _ in statements()]
