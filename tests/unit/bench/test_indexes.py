"""What the bench reads in an answer of EXPLAIN."""

import json

from bench.indexes import said


def index(kind: str, before: int, after: int, name: str = "") -> dict[str, object]:
    """Return an index of a plan."""
    named = {"Name": name} if name else {}
    return {"Type": kind, "Initial Granules": before, "Selected Granules": after} | named


def test_the_indexes_that_leave_something_out_are_named() -> None:
    """Over all tables that a plan reads, each index once; a node without indexes reads no table of ours."""
    one = {
        "Node Type": "ReadFromMergeTree",
        "Indexes": [index("PrimaryKey", 9, 9), index("Skip", 9, 2, "ping_id_bloom")],
    }
    other = {
        "Node Type": "ReadFromMergeTree",
        "Indexes": [index("PrimaryKey", 5, 3), index("Skip", 3, 2, "ping_id_bloom")],
    }
    plan = {"Plan": {"Node Type": "Union", "Plans": [{"Plans": [one]}, other, {"Node Type": "ReadFromMergeTree"}]}}

    assert said(json.dumps([plan])) == {"granules": 14, "read": 4, "by": ["ping_id_bloom", "PrimaryKey"]}
