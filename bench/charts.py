"""Bar charts and curves as SVG files, for the documents."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from bench.processes import Figures

_WIDTH: Final = 640
_LABEL: Final = 190
_ROW: Final = 26
_TOP: Final = 34
_STYLE: Final = "font-family='sans-serif' font-size='13'"


def bars(title: str, rows: Sequence[tuple[str, Figures]]) -> str:
    """Return a chart with a bar for each row: its median, and a line from the least to the largest value."""
    most = max(max(figures.values) for _, figures in rows) or 1.0
    scale = (_WIDTH - _LABEL - 110) / most
    height = _TOP + _ROW * len(rows) + 8
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' viewBox='0 0 {_WIDTH} {height}'>",
        f"<rect width='{_WIDTH}' height='{height}' fill='white'/>",
        f"<text x='8' y='20' {_STYLE} font-weight='bold'>{escape(title)}</text>",
    ]
    for number, (label, figures) in enumerate(rows):
        y = _TOP + _ROW * number
        right = _LABEL + max(figures.values) * scale
        left = _LABEL + min(figures.values) * scale
        parts += [
            f"<text x='8' y='{y + 15}' {_STYLE}>{escape(label)}</text>",
            f"<rect x='{_LABEL}' y='{y + 2}' width='{figures.median * scale:.1f}' height='16' fill='#4878a8'/>",
            f"<line x1='{left:.1f}' x2='{right:.1f}' y1='{y + 10}' y2='{y + 10}' stroke='black'/>",
            f"<text x='{right + 6:.1f}' y='{y + 15}' {_STYLE}>{figures.short}</text>",
        ]
    return "\n".join((*parts, "</svg>")) + "\n"


_COLOURS: Final = ("#4878a8", "#c05030", "#5a8f4a")
_HEIGHT: Final = 200
_LEFT: Final = 70
_BOTTOM: Final = 40


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], marks: Sequence[tuple[float, str]]) -> str:
    """Return a chart of curves over seconds; each mark is a vertical line with a text, from a moment on."""
    right = max(x for line in lines.values() for x, _ in line) or 1.0
    most = max(y for line in lines.values() for _, y in line) or 1.0
    across, up = (_WIDTH - _LEFT - 20) / right, (_HEIGHT - _TOP - _BOTTOM - 20) / most
    bottom = _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> str:
        return f"{_LEFT + x * across:.1f},{bottom - y * up:.1f}"

    view = f"width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {view}>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>",
        f"<text x='8' y='20' {_STYLE} font-weight='bold'>{escape(title)}</text>",
        f"<line x1='{_LEFT}' x2='{_WIDTH - 20}' y1='{bottom}' y2='{bottom}' stroke='black'/>",
        f"<text x='{_LEFT - 6}' y='{_TOP + 24}' {_STYLE} text-anchor='end'>{most:,.0f}</text>",
        f"<text x='{_LEFT - 6}' y='{bottom}' {_STYLE} text-anchor='end'>0</text>",
        f"<text x='{_WIDTH - 20}' y='{bottom + 16}' {_STYLE} text-anchor='end'>{right:,.0f} s</text>",
    ]
    for x, text in marks:
        place = _LEFT + x * across
        parts += [
            f"<line x1='{place:.1f}' x2='{place:.1f}' y1='{_TOP}' y2='{bottom}' stroke='#999' stroke-dasharray='3'/>",
            f"<text x='{place + 3:.1f}' y='{_TOP + 8}' font-family='sans-serif' font-size='11'>{escape(text)}</text>",
        ]
    for number, (label, line) in enumerate(lines.items()):
        colour = _COLOURS[number]
        points = " ".join(at(x, y) for x, y in line)
        parts += [
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>",
            f"<text x='{_LEFT + 150 * number}' y='{_HEIGHT - 8}' {_STYLE} fill='{colour}'>{escape(label)}</text>",
        ]
    return "\n".join((*parts, "</svg>")) + "\n"
