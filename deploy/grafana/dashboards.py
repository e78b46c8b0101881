"""Writes Grafana's dashboards as JSON from deploy/grafana/panels.py: `python -m deploy.grafana.dashboards`."""

import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from deploy.grafana.panels import BOARDS, Board, Panel

DIRECTORY: Final = Path(__file__).parent / "dashboards"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="headrace-prometheus")
"""deploy/grafana/provisioning/datasources has it."""
_WIDTH: Final = 24
_MOST_IN_A_ROW: Final = 4
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4


def _visual(panel: Panel, span: int) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if panel.is_stat:
        made = stat.Panel().height(_STAT_HEIGHT)
    else:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        made = timeseries.Panel().height(_HEIGHT).legend(legend.show_legend(show_legend=True)).min(0)
    made = made.title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE).span(span)
    for number, (legend_format, expression) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend_format).ref_id(chr(ord("A") + number))
        made = made.with_target(query)
    return made


def built(uid: str, board: Board) -> str:
    """Return a dashboard's JSON."""
    made = dashboard.Dashboard(board.title).uid(uid).description(board.about).tags(["headrace"]).refresh("30s")
    made = made.time("now-1h", "now").timezone("browser").readonly()
    for title, panels in board.rows.items():
        made = made.with_row(dashboard.Row(title))
        span = _WIDTH // min(_MOST_IN_A_ROW, len(panels)) if len(panels) % 3 else _WIDTH // 3
        for panel in panels:
            made = made.with_panel(_visual(panel, span))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def main() -> None:
    """Write every dashboard."""
    DIRECTORY.mkdir(exist_ok=True)
    for uid, board in BOARDS.items():
        (DIRECTORY / f"{uid}.json").write_text(built(uid, board), "utf-8")
        sys.stdout.write(f"deploy/grafana/dashboards/{uid}.json\n")


if __name__ == "__main__":
    main()
