"""The questions of docs/ANALYTICS.md: their statements, and what they answered and cost on generated events.

`python -m bench.questions` measures and keeps that; `make docs` writes it behind each statement.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bench.kept import load
from docs.tables import ROOT

PAGE: Final = "docs/ANALYTICS.md"
ROWS_SHOWN: Final = 4
_TEXT_MAX: Final = 36
_STEP_MS: Final = 10
_QUESTION: Final = re.compile(
    r"^(?P<asked>[A-Z][^\n`|]*\?)(?:(?!```).)*?```sql\n(?P<sql>.*?)```", re.DOTALL | re.MULTILINE
)
_HEADER: Final = re.compile(r"<!-- answer-(\d+) -->\n\|(.*?)\|\n")


class Question(NamedTuple):
    """A question of the page, and its statement."""

    asked: str
    sql: str


def questions(page: str) -> list[Question]:
    """Return the questions of the page in their order."""
    return [Question(" ".join(found["asked"].split()), found["sql"]) for found in _QUESTION.finditer(page)]


def headers(page: str) -> dict[int, list[str]]:
    """Return the columns of the answer that the page shows below each question, by the question's number from 1 on."""
    return {int(number): [name.strip() for name in names.split("|")] for number, names in _HEADER.findall(page)}


def shown(value: Any) -> str:
    """Return a value as a cell of a table: short, and without what would end the cell."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    text = str(value)
    return (text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…").replace("|", "\\|")


def answer(kept: Mapping[str, Any]) -> str:
    """Return the first rows of an answer as a table, and how many there are."""
    rows = [kept["columns"], *([shown(value) for value in row] for row in kept["rows"])]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(kept["columns"]) + "|")
    more = kept["count"] - len(kept["rows"])
    return "\n".join((*lines, *(("", f"{more:,} more rows.") if more else ())))


def answers() -> dict[str, Callable[[], str]]:
    """Return what stands between the markers of each question's answer."""
    asked = questions((ROOT / PAGE).read_text("utf-8"))

    def made(question: Question) -> Callable[[], str]:
        return lambda: answer(_kept(question)["answer"])

    return {f"answer-{number}": made(question) for number, question in enumerate(asked, 1)}


def _kept(question: Question) -> dict[str, Any]:
    """Return what was kept of a statement.

    Raises:
        FileNotFoundError: nothing was, or of another statement.
    """
    found: dict[str, Any] | None = load("questions")["questions"].get(question.sql)
    if found is None:
        raise FileNotFoundError(question.asked)
    return found


def costs() -> str:
    """Return what each question cost, for each number of events."""
    document = load("questions")
    sizes: Sequence[str] = list(document["tables"])
    cells = ["question", *(f"{_millions(size)}: ms of CPU | rows read | MB read" for size in sizes)]
    lines = [f"| {' | '.join(cells)} |", "|---" * (1 + 3 * len(sizes)) + "|"]
    for question in questions((ROOT / PAGE).read_text("utf-8")):
        kept = document["questions"].get(question.sql, {"costs": {}})["costs"]
        lines.append(f"| {question.asked} | {' | '.join(_cost(kept.get(size)) for size in sizes)} |")
    return "\n".join(lines)


def _cost(seen: Mapping[str, float] | None) -> str:
    if seen is None:
        return " | | "
    if not seen:
        return "more than 8 GB of memory | | "
    return f"{seen['cpu_ms']:,.0f} | {seen['read_rows']:,.0f} | {seen['read_bytes'] / 1e6:,.0f}"


def tables() -> str:
    """Return the tables that were asked: their size, what an insert cost, and the price of FINAL."""
    document = load("questions")
    names = {
        "rows": "rows",
        "bytes_per_row": "bytes a row",
        "insert_us": "insert, µs of CPU a row",
        "count_ms": "count by type, ms of CPU",
        "final_ms": "the same of events_unique",
        "unmerged_ms": "the same with 1 % unmerged copies",
        "erase_s": "erase one user, s",
        "refresh_s": "make the copy page_views_hourly, s",
        "view_ms": "the questions of page_views, ms of CPU",
        "copy_ms": "the same of the copy",
    }
    lines = [f"| events | {' | '.join(names.values())} |", "|---" * (1 + len(names)) + "|"]
    for size, seen in document["tables"].items():
        cells = (_figure(name, seen[name]) if name in seen else "" for name in names if name != "rows")
        lines.append(f"| {_millions(size)} | {seen['rows']:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(name: str, value: float) -> str:
    """Return a figure; CPU is counted in steps of ten milliseconds."""
    if name.endswith("_ms"):
        return f"{value:,.0f}" if value >= _STEP_MS else f"< {_STEP_MS}"
    return f"{value:,.1f}"


def machine() -> str:
    """Return on what the figures were measured."""
    document = load("questions")
    return f"Machine: {document['machine']}, ClickHouse {document['clickhouse']}. {document['asked']}"


def final_price() -> str:
    """Return what FINAL costs on many rows."""
    document = load("final_price")
    lines = [
        f"| count by type of {document['rows']:,} rows | ms | ms of CPU | rows read | MB read |",
        "|---" * 5 + "|",
    ]
    for name, seen in document["queries"].items():
        lines.append(
            f"| {name} | {_figure('_ms', seen['ms'])} | {_figure('_ms', seen['cpu_ms'])}"
            f" | {seen['read_rows']:,.0f} | {seen['read_bytes'] / 1e6:,.0f} |"
        )
    return "\n".join(lines)


def indexes() -> str:
    """Return how many granules each condition reads, and by which indexes."""
    document = load("indexes")
    lines = [f"| of {document['rows']:,} rows | where | granules read | of | by |", "|---" * 5 + "|"]
    for seen in document["conditions"]:
        by = ", ".join(f"`{name}`" for name in seen["by"])
        lines.append(
            f"| `{seen['view']}` | `{seen['condition']}` | {seen['read']:,} | {seen['granules']:,} | {by or 'none'} |"
        )
    return "\n".join(lines)


def _millions(size: str) -> str:
    return f"{float(size):g} M events"
