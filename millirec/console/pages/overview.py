"""Overview: how the service is, at a glance, and over the last ten minutes."""

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from millirec.console.service.alarms import alarms
from millirec.console.service.client import ApiClient
from millirec.console.service.exposition import Quantiles
from millirec.console.service.monitor import Monitor, Sample
from millirec.console.widgets.charts import Chart, Point, line
from millirec.console.widgets.notices import banner, empty
from millirec.console.widgets.page_registry import page
from recsys.recommender.query import FallbackLevel

SHOWN_ALIASES = ("live", "previous", "candidate", "canary", "shadow")
FALLBACK_LEVEL_NAMES: dict[str, str] = {
    FallbackLevel.EMBEDDING: "fresh vector",
    FallbackLevel.FOLDED: "folded in",
    FallbackLevel.SNAPSHOT: "as trained",
    FallbackLevel.SESSION: "this visit",
    FallbackLevel.TRENDING: "trending",
    FallbackLevel.POPULAR: "popular",
}


@page("/", title="Overview", icon="dashboard", key="o", order=10)
async def overview(api: ApiClient) -> None:
    """Draw the overview."""
    monitor: Monitor = ui.context.client.request.state.monitor
    versions = await api.get("/versions")
    board = Board(monitor)
    with ui.card().classes("w-full"):
        with ui.row().classes("w-full items-center justify-between"):
            ui.label("Versions").classes("font-medium")
            ui.link("All versions", "/versions")
        _aliases(versions)
    board.refresh()
    ui.timer(2.0, board.refresh)


def _aliases(versions: dict[str, Any]) -> None:
    pointing = {alias: version for version in versions["versions"] for alias in version["aliases"]}
    if not pointing:
        empty("No version yet", "Train one: millirec train. Until then the service is not ready.", "inventory_2")
    for alias in sorted(pointing, key=lambda name: SHOWN_ALIASES.index(name) if name in SHOWN_ALIASES else 99):
        version = pointing[alias]
        with ui.row().classes("w-full items-center gap-3"):
            ui.badge(alias).props("outline" if alias != "live" else "").classes("min-w-[72px] justify-center")
            ui.link(version["version"], f"/versions?version={version['version']}").classes("m-mono")
            ui.label(version["summary"]).classes("m-dim text-sm")


class Board:
    """The live part: alarms, figures and charts from the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._shown: object = None
        self._alarms = ui.column().classes("w-full gap-2")
        self._alarms.set_visibility(False)
        with ui.element("div").classes("m-tiles"):
            self._rate = _tile("Recommendations", "a second")
            self._p50 = _tile("Median answer", "ms")
            self._p99 = _tile("p99 answer", "ms")
            self._fresh = _tile("An event counts after", "ms, p99 of the last minute")
            self._lag = _tile("Consumer lag", "messages")
            self._spool = _tile("On the spool", "messages")
        with ui.element("div").classes("m-grid"):
            traffic = {"recommended": "recommendations", "events": "events", "others": "other calls"}
            self._traffic = line("Requests", "/ s", traffic)
            self._latency = line("Time to recommend", "ms", {"p50": "p50", "p99": "p99"})
            self._fallback_levels = line("How answers came about", "%", FALLBACK_LEVEL_NAMES, stacked=True)
            self._freshness = line("From an event to its effect", "ms", {"p50": "p50", "p99": "p99"})
            self._lags = line("Consumer lag, messages", "", {"features": "features", "log": "log"})
            self._refused = line("Refused requests", "/ s", {"shed": "turned away", "failed": "failed"})
        self._no_consumers = banner(
            "No consumer was heard yet: name the metrics ports of the consumers in console.metrics_urls.",
            icon="sensors_off",
        )

    def refresh(self) -> None:
        """Draw the newest sample and the charts."""
        self._monitor.note_viewer()
        samples = list(self._monitor.samples)
        if not samples:
            return
        sample = samples[-1]
        self._tell(sample)
        self._rate(f"{sample.recommended:,.1f}")
        self._p50(_milliseconds(sample.latency, "p50"))
        self._p99(_milliseconds(sample.latency, "p99"))
        self._fresh(_milliseconds(sample.freshness, "p99"))
        self._lag(f"{sum(sample.lag.values()):,.0f}" if sample.lag else "unknown")
        self._spool(f"{sample.spooled:,.0f}")
        self._no_consumers.set_visibility(not self._monitor.has_consumers)
        self._draw(samples)

    def _draw(self, samples: Sequence[Sample]) -> None:
        def points(value: Callable[[Sample], float | None]) -> list[Point]:
            """Return the points of a value over time."""
            return [(round(sample.at * 1000), _rounded(value(sample))) for sample in samples]

        def show(chart: Chart, **values: Callable[[Sample], float | None]) -> None:
            """Draw values over time in a chart."""
            chart.show({key: points(value) for key, value in values.items()})

        show(self._traffic, recommended=lambda s: s.recommended, events=lambda s: s.events, others=lambda s: s.others)
        show(self._latency, p50=lambda s: _ms(s.latency, "p50"), p99=lambda s: _ms(s.latency, "p99"))
        show(self._freshness, p50=lambda s: _ms(s.freshness, "p50"), p99=lambda s: _ms(s.freshness, "p99"))
        show(self._lags, features=lambda s: s.lag.get("features"), log=lambda s: s.lag.get("log"))
        show(self._refused, shed=lambda s: s.shed, failed=lambda s: s.failed)
        shares = {
            level: points(lambda s, level=level: 100 * s.fallback_levels[level] if s.fallback_levels else None)  # type: ignore[misc]
            for level in FALLBACK_LEVEL_NAMES
        }
        self._fallback_levels.show(
            {level: drawn for level, drawn in shares.items() if any(value for _, value in drawn)}
        )

    def _tell(self, sample: Sample) -> None:
        findings = alarms(sample)
        if findings == self._shown:
            return
        self._shown = findings
        self._alarms.clear()
        self._alarms.set_visibility(bool(findings))
        with self._alarms:
            for alarm in findings:
                banner(
                    f"{alarm.text}. {alarm.advice}", kind=alarm.kind, icon="error" if alarm.kind == "bad" else "warning"
                )


def _tile(title: str, unit: str) -> Callable[[str], None]:
    with ui.card():
        ui.label(title).classes("m-dim text-sm")
        number = ui.label("").classes("m-number")
        ui.label(unit).classes("m-dim text-xs")

    def show(text: str) -> None:
        """Show a new number."""
        number.text = text

    return show


def _ms(quantiles: Quantiles | None, which: str) -> float | None:
    return None if quantiles is None else 1000 * float(getattr(quantiles, which))


def _milliseconds(quantiles: Quantiles | None, which: str) -> str:
    value = _ms(quantiles, which)
    return "none yet" if value is None else f"{value:,.1f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
