"""The data team's questions are read from their page, and each kind of answer has its chart."""

from typing import Any

import pytest

from deploy.embedded.console.database import Answer
from deploy.embedded.console.questions import chart_of, read_questions
from docs.tables import ROOT

PAGE = """# Asking

```sql
SELECT 'outside'
```

## Questions

How many
visitors? (Days can't be added up.)

```sql
SELECT count()
FROM sessions
```

Which sections?

```sql
SELECT 1
```

## After

```sql
SELECT 'outside'
```
"""


def test_questions_are_what_the_section_has() -> None:
    """The sentence up to the question mark, what is added to it, the statement; other sections have none."""
    first, second = read_questions(PAGE)

    assert (first.title, first.note) == ("How many visitors?", "Days can't be added up.")
    assert first.statement == "SELECT count()\nFROM sessions"
    assert (second.title, second.note, second.statement) == ("Which sections?", "", "SELECT 1")
    assert read_questions("# no section") == ()


def test_the_page_of_the_data_team_has_its_questions() -> None:
    """Each with a sentence and a statement that only reads."""
    questions = read_questions((ROOT / "docs/ANALYTICS.md").read_text("utf-8"))

    assert len(questions) >= 25
    assert all(question.title.endswith("?") for question in questions)
    assert all(question.statement.startswith("SELECT") for question in questions)
    assert len({question.title for question in questions}) == len(questions)


def answer(columns: dict[str, str], *rows: list[Any]) -> Answer:
    """Return an answer."""
    return Answer(tuple(columns.items()), list(rows))


def test_one_number_is_shown_large() -> None:
    """One row, one column."""
    chart = chart_of(answer({"share": "Float64"}, [0.25]))

    assert (chart.kind, chart.series) == ("number", (("share", (0.25,)),))


@pytest.mark.parametrize("nothing", [None, "nan"])
def test_a_number_that_is_none_stays_none(nothing: str | None) -> None:
    """NULL, and what JSON has no number for."""
    assert chart_of(answer({"mean": "Nullable(Float64)"}, [nothing])).series == (("mean", (None,)),)


def test_days_are_columns_in_order() -> None:
    """Over time, whatever the statement's order is; each number is a series."""
    chart = chart_of(
        answer({"day": "Date", "a": "UInt64", "b": "Float64"}, ["2026-01-02", 2, 0.5], ["2026-01-01", 1, 1.5])
    )

    assert (chart.kind, chart.labels) == ("columns", ("2026-01-01", "2026-01-02"))
    assert chart.series == (("a", (1.0, 2.0)), ("b", (1.5, 0.5)))


def test_a_second_name_is_a_group() -> None:
    """By day and currency: never one bar for both."""
    columns = {"day": "Date", "currency": "LowCardinality(String)", "net": "Decimal(38, 4)"}
    chart = chart_of(answer(columns, ["2026-01-01", "EUR", 1.5], ["2026-01-01", "USD", 2]))

    assert (chart.kind, chart.groups) == ("columns", ("EUR", "USD"))


def test_a_leading_number_is_an_order() -> None:
    """Hours of a day."""
    chart = chart_of(answer({"hour_utc": "UInt8", "visitors": "UInt64"}, [7, 3], [5, 1]))

    assert (chart.kind, chart.labels, chart.series) == ("columns", ("5", "7"), (("visitors", (1.0, 3.0)),))


def test_categories_are_bars_in_the_answers_order() -> None:
    """Names before the first number are one label; what follows as text is not drawn; an empty name says so."""
    columns = {"kind": "LowCardinality(String)", "os": "String", "visitors": "UInt64", "example": "String"}
    chart = chart_of(answer(columns, ["phone", "", 9, "x"], ["desktop", "Linux", 12, "y"]))

    assert (chart.kind, chart.labels) == ("bars", ("phone · (none)", "desktop · Linux"))
    assert chart.series == (("visitors", (9.0, 12.0)),)


def test_moments_without_numbers_are_dots() -> None:
    """What one visitor did."""
    columns = {"occurred_at": "DateTime64(3, 'UTC')", "event_type": "LowCardinality(String)", "url": "String"}
    chart = chart_of(answer(columns, ["2026-01-01 10:00:00.000", "VIEW", "u"]))

    assert (chart.kind, chart.groups) == ("dots", ("VIEW",))


@pytest.mark.parametrize(
    "told",
    [
        answer({"a": "UInt64"}),
        answer({"a": "String"}, ["x"]),
        answer({"a": "UInt64"}, [1], [2]),
        answer({"a": "DateTime"}, ["2026-01-01 00:00:00"]),
    ],
)
def test_other_answers_have_no_chart(told: Answer) -> None:
    """Their table has all."""
    assert chart_of(told).kind == "none"


def test_a_chart_of_many_points_says_what_it_leaves_out() -> None:
    """Bars keep the first ones, columns the last ones."""
    bars = chart_of(answer({"name": "String", "n": "UInt8"}, *([str(n), n] for n in range(100))))
    columns = chart_of(answer({"day": "Date", "n": "UInt16"}, *([f"{n:04}", n] for n in range(1000))))

    assert (bars.labels[0], len(bars.labels) + bars.left_out) == ("0", 100)
    assert (columns.labels[-1], len(columns.labels) + columns.left_out) == ("0999", 1000)
