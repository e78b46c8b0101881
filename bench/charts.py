"""Bar charts as SVG files, for the documents."""

from collections.abc import Sequence
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
