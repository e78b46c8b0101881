"""The tables: statements, rows, migrations, the search for poison, and repair after an insert that failed."""
