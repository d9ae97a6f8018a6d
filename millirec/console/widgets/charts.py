"""Charts that look alike in light and dark, with units on their axes."""

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from millirec.console.widgets.theme import GREY, SERIES

Point = Sequence[float | None]
LINES = {"lineStyle": {"color": GREY, "opacity": 0.25}}


def line(title: str, unit: str, names: Mapping[str, str], *, stacked: bool = False) -> "Chart":
    """Return a chart of lines over time. `names`: the name of each series by its key; `unit` stands on the axis.

    Points are (milliseconds since 1970, value).
    """
    return Chart(title, _options(unit, full=stacked and unit == "%"), names, stacked=stacked)


class Chart:
    """A card with a title, the newest values and the lines."""

    def __init__(self, title: str, options: dict[str, Any], names: Mapping[str, str], *, stacked: bool) -> None:
        self._names = names
        self._stacked = stacked
        with ui.card().classes("w-full min-w-0"):
            with ui.row().classes("w-full items-baseline justify-between no-wrap"):
                ui.label(title).classes("font-medium")
                self._newest = ui.label().classes("m-dim text-sm text-right")
            self._chart = ui.echart(options).classes("w-full").style("height: 210px")
            self._chart.props(f'role="img" aria-label="{title}"')

    def show(self, series: Mapping[str, Sequence[Point]], newest: str = "") -> None:
        """Draw `series` by key; keys without a name are left out. `newest`: the newest value in words."""
        drawn = any(value is not None for points in series.values() for _, value in points)
        self._newest.text = newest if drawn else "nothing yet"
        self._chart.options["series"] = [
            _line(name, series[key], SERIES[position % len(SERIES)], stacked=self._stacked)
            for position, (key, name) in enumerate(self._names.items())
            if key in series
        ]
        self._chart.update()


def _line(name: str, points: Sequence[Point], colour: str, *, stacked: bool) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "name": name,
        "type": "line",
        "data": list(points),
        "showSymbol": False,
        "lineStyle": {"width": 0 if stacked else 2},
        "itemStyle": {"color": colour},
    }
    if stacked:
        drawn |= {"stack": "all", "areaStyle": {"opacity": 0.75}}
    return drawn


def _options(unit: str, *, full: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": "value",
        "axisLabel": {"color": GREY, "formatter": f"{{value}} {unit}"},
        "splitLine": LINES,
        "min": 0,
    }
    if full:
        value["max"] = 100
    return {
        "animation": False,
        "textStyle": {"fontFamily": "Roboto, sans-serif"},
        "grid": {"left": 4, "right": 28, "top": 10, "bottom": 30, "containLabel": True},
        "legend": {
            "type": "scroll",
            "bottom": 0,
            "icon": "roundRect",
            "itemWidth": 12,
            "itemHeight": 4,
            "textStyle": {"color": GREY},
        },
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "line"}, "confine": True},
        "xAxis": {
            "type": "time",
            "axisLabel": {"color": GREY, "hideOverlap": True, "formatter": "{HH}:{mm}:{ss}"},
            "axisLine": LINES,
            "splitNumber": 4,
        },
        "yAxis": value,
        "series": [],
    }
