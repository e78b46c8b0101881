"""The questions of docs/ANALYTICS.md, read from the page itself, and the chart that suits an answer."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from deploy.embedded.console.database import Answer

_SECTION: Final = re.compile(r"^## Questions\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_QUESTION: Final = re.compile(r"(?P<prose>.*?)^```sql\n(?P<sql>.*?)^```$", re.DOTALL | re.MULTILINE)
_POINTS_MAX: Final = 120
_BARS_MAX: Final = 15
_NUMBER: Final = re.compile(r"(?:Nullable\()?(?:U?Int|Float|Decimal|BFloat)")
_TIME: Final = re.compile(r"(?:LowCardinality\()?(?:Nullable\()?Date")

Kind = Literal["number", "bars", "columns", "dots", "none"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its sentence, what the page adds to it, and its statement."""

    title: str
    note: str
    statement: str


@dataclass(frozen=True, slots=True)
class Chart:
    """How an answer is drawn.

    Attributes:
        kind: `number` (one large one), `bars` (of categories), `columns` (over time or another order), `dots`
            (moments by category), `none`.
        labels: the label of each point, in the order to draw.
        groups: the second category of each point; "" when there is none.
        series: the name of each numeric column with its values, one per point; None where there is none.
        left_out: how many points are not drawn, because there are too many.
    """

    kind: Kind
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    series: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    left_out: int = 0


def read_questions(page: str) -> tuple[Question, ...]:
    """Return the questions of a page, in its order: a text that ends in SQL."""
    section = _SECTION.search(page)
    found = _QUESTION.finditer(section[1]) if section else ()
    return tuple(_question(match["prose"], match["sql"].strip()) for match in found)


def _question(prose: str, statement: str) -> Question:
    title, mark, rest = " ".join(prose.split()).partition("?")
    note = rest.strip()
    if note.startswith("(") and note.endswith(")"):
        note = note[1:-1]
    return Question(title + mark, note, statement)


def chart_of(answer: Answer) -> Chart:
    """Choose by the columns' types: what comes before the first number names a point, the numbers are drawn."""
    names = [name for name, _ in answer.columns]
    numbers = [index for index, (_, kind) in enumerate(answer.columns) if _NUMBER.match(kind)]
    times = [index for index, (_, kind) in enumerate(answer.columns) if _TIME.match(kind)]
    if not answer.rows:
        return Chart("none")
    if len(names) == 1 and numbers and len(answer.rows) == 1:
        return Chart("number", (names[0],), ("",), ((names[0], (_value(answer.rows[0][0]),)),))
    if not numbers:
        return _dots(answer, times[0]) if times and len(names) > 1 else Chart("none")
    leading = list(range(numbers[0])) or [0]
    drawn = [index for index in numbers if index not in leading]
    if not drawn:
        return Chart("none")
    is_ordered = leading[0] in times or leading[0] in numbers
    rows = sorted(answer.rows, key=lambda row: row[leading[0]]) if is_ordered else answer.rows
    kept = rows[-_POINTS_MAX:] if is_ordered else rows[:_BARS_MAX]
    series = tuple((names[index], tuple(_value(row[index]) for row in kept)) for index in drawn)
    left_out = len(rows) - len(kept)
    if is_ordered:
        groups = tuple(_joined(row, leading[1:]) for row in kept)
        return Chart("columns", tuple(str(row[leading[0]]) for row in kept), groups, series, left_out)
    return Chart("bars", tuple(_joined(row, leading) for row in kept), ("",) * len(kept), series, left_out)


def _dots(answer: Answer, time: int) -> Chart:
    category = next(index for index in range(len(answer.columns)) if index != time)
    kept = answer.rows[:_POINTS_MAX]
    labels = tuple(str(row[time]) for row in kept)
    return Chart("dots", labels, tuple(str(row[category]) for row in kept), (), len(answer.rows) - len(kept))


def _joined(row: list[Any], columns: list[int]) -> str:
    return " · ".join(str(row[index]) or "(none)" for index in columns)


def _value(cell: Any) -> float | None:
    """Return a number; JSON has no infinite ones, and NULL is none."""
    return float(cell) if isinstance(cell, int | float) else None
