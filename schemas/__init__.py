"""The event as Avro, as a Python value and as a table; schema ids, and connections to servers."""
