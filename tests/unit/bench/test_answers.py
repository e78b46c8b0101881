"""The analysts' page as the bench reads and writes it."""

from bench.answers import answer, headers, questions, shown

PAGE = """# Asking?

Some text. Is it one? No.

```
no statement
```

How many? (Of `all`.)

```sql
SELECT 1
```

<!-- answer-1 -->
| n | m |
|---|---|
| 1 | 2 |
<!-- /answer-1 -->

Which ones are there?

```sql
SELECT 2
```
"""


def test_questions_are_found_with_their_statements() -> None:
    """In their order; what has no statement behind it is none."""
    assert questions(PAGE) == [("How many?", "SELECT 1\n"), ("Which ones are there?", "SELECT 2\n")]
    assert headers(PAGE) == {1: ["n", "m"]}


def test_an_answer_is_a_short_table() -> None:
    """It tells how many rows it leaves out; a bar ends no cell."""
    kept = {"columns": ["day", "share"], "rows": [["2026-01-05", 0.123456], ["a|b" + "c" * 99, 1234.5]], "count": 1002}
    lines = answer(kept).splitlines()

    assert lines[:3] == ["| day | share |", "|---|---|", "| 2026-01-05 | 0.1235 |"]
    assert lines[3].startswith("| a\\|bcc")
    assert lines[3].endswith("… | 1,234.5 |")
    assert lines[4:] == ["", "1,000 more rows."]


def test_values_are_shown_as_people_write_them() -> None:
    """Numbers in groups of three, lists without brackets."""
    assert [shown(value) for value in (1234567, ["a", "b"], True, None, "x")] == [
        "1,234,567",
        "a, b",
        "True",
        "NULL",
        "x",
    ]
