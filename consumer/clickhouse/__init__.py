"""The tables: statements, rows, migrations, and what is done about an insert that failed."""
