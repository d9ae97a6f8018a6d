"""Metrics of versions over time."""

from typing import Any

from nicegui import ui

from millirec.console.widgets.notices import empty
from millirec.console.widgets.theme import GREY, SERIES

Json = dict[str, Any]
FIRST_SHOWN = ("recall@20", "ndcg@20")
MAX_METRICS = 4
"""Metrics in one plot."""


class VersionPlot:
    """One line per chosen metric, one point per version."""

    def __init__(self, versions: list[Json]) -> None:
        self._versions = versions
        names = sorted({name for version in versions for name in version["metrics"]})
        if not names:
            empty("No metrics", "Versions that were trained with an evaluation have some.", "query_stats")
            return
        chosen = [name for name in FIRST_SHOWN if name in names] or names[:1]
        with ui.row().classes("w-full items-center justify-between gap-3"):
            ui.label("Metrics over time").classes("font-medium")
            self._choice = ui.select(names, multiple=True, value=chosen, label="Metrics", on_change=self._show)
            self._choice.props(f"outlined dense use-chips max-values={MAX_METRICS}").classes("min-w-[260px]")
        self._chart = ui.echart(_options()).classes("w-full").style("height: 300px")
        self._chart.props('role="img" aria-label="Metrics of versions over time"')
        self._show()

    def _show(self) -> None:
        self._chart.options["xAxis"]["data"] = [_label(version) for version in self._versions]
        self._chart.options["series"] = [
            {
                "name": name,
                "type": "line",
                "symbolSize": 8,
                "itemStyle": {"color": SERIES[position % len(SERIES)]},
                "data": [_rounded(version["metrics"].get(name)) for version in self._versions],
                "connectNulls": True,
            }
            for position, name in enumerate(self._choice.value or [])
        ]
        self._chart.update()


def _label(version: Json) -> str:
    live = " (live)" if "live" in version["aliases"] else ""
    return f"{version['version']}{live}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _options() -> dict[str, Any]:
    return {
        "animation": False,
        "textStyle": {"fontFamily": "Roboto, sans-serif"},
        "grid": {"left": 4, "right": 60, "top": 12, "bottom": 34, "containLabel": True},
        "legend": {"bottom": 0, "icon": "roundRect", "itemWidth": 12, "itemHeight": 4, "textStyle": {"color": GREY}},
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {
            "type": "category",
            "data": [],
            "axisLabel": {"color": GREY, "hideOverlap": True},
            "boundaryGap": True,
        },
        "yAxis": {
            "type": "value",
            "scale": True,
            "axisLabel": {"color": GREY},
            "splitLine": {"lineStyle": {"opacity": 0.2}},
        },
        "series": [],
    }
