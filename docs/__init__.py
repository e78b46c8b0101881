"""The documentation, and the tables of it that are generated."""
