"""A shadow: what a version would have answered, measured beside the live one without showing it to users."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient
from millirec.console.widgets.dialogs import ask_reason
from millirec.console.widgets.notices import Hand

Json = dict[str, Any]
Reload = Callable[[], Awaitable[None]]


def running(shadow: Json, api: ApiClient, reload: Reload) -> Hand:
    """Draw the card of a shadow from GET /rollouts. Returns the hand over its button."""
    version = shadow["version"]

    async def stop() -> None:
        """Ask for a reason and end the shadow."""
        reason = await ask_reason(
            api, "Stop the shadow?", "The report is gone with it; answers stay as they are.", "Stop"
        )
        if reason:
            await api.post("/rollouts/shadow/stop", {"reason": reason}, timeout=60.0)
            await reload()

    with ui.row().classes("w-full items-center justify-between gap-2"):
        with ui.row().classes("items-center gap-2"):
            ui.label("Shadow").classes("font-medium")
            ui.link(version, f"/versions?version={version}").classes("m-mono")
            ui.label(f"{shadow['share']:.0%} of the requests").classes("m-dim")
        button = ui.button("Stop", icon="stop", on_click=stop).props("no-caps outline")
    with ui.element("div").classes("m-tiles"):
        _tile("Compared", f"{shadow['compared']:,}", "requests")
        _tile("Same items", _percent(shadow["overlap"]), "overlap with what was shown")
        _tile("Failed", f"{shadow['failed']:,}", "requests")
        _tile("Left out", f"{shadow['skipped']:,}", "over the budget")
    rows = [*_pairs("Time", shadow["seconds"], 1000, " ms"), *_pairs("Score", shadow["scores"], 1, "")]
    columns = [
        {"name": name, "label": label, "field": name, "align": "left" if name == "what" else "right"}
        for name, label in (("what", ""), ("live", "Live"), ("shadow", "Shadow"))
    ]
    ui.table(rows=rows, columns=columns, row_key="what").classes("w-full").props("flat dense hide-bottom")
    return Hand(button)


def start_form(versions: list[Json], api: ApiClient, reload: Reload) -> None:
    """Draw the form that starts a shadow."""
    ui.label("Shadow").classes("font-medium")
    ui.label(
        "A share of the real requests is answered by another version too. Nobody sees it; the report tells how "
        "different its answers are and how long they take."
    ).classes("m-dim")
    names = [entry["version"] for entry in reversed(versions) if "live" not in entry["aliases"]]
    with ui.row().classes("w-full items-end gap-3"):
        version = ui.select(names, label="Version").props("outlined dense").classes("min-w-[240px]")
        share = ui.number("% of the requests", value=10, min=0.1, max=100).props("outlined dense").classes("w-40")

        async def start() -> None:
            """Ask for a reason and start the shadow."""
            text = "It costs processor time in every replica, within a bounded budget."
            reason = await ask_reason(api, f"Start {version.value} as a shadow?", text, "Start")
            if reason:
                body = {"version": version.value, "reason": reason, "share": (share.value or 10) / 100}
                await api.post("/rollouts/shadow", body, timeout=60.0)
                await reload()

        button = ui.button("Start", icon="play_arrow", on_click=start).props("no-caps unelevated")
        button.bind_enabled_from(version, "value", bool)


def _pairs(label: str, values: Json | None, factor: float, unit: str) -> list[Json]:
    """Return `{"live_p50": .., "shadow_p50": ..}` as rows."""
    numbers = values or {}
    kinds = [name.removeprefix("live_") for name in numbers if name.startswith("live_")]
    return [
        {
            "what": f"{label}, {kind}",
            "live": _number(numbers[f"live_{kind}"], factor, unit),
            "shadow": _number(numbers.get(f"shadow_{kind}"), factor, unit),
        }
        for kind in kinds
    ]


def _number(value: float | None, factor: float, unit: str) -> str:
    return "not known yet" if value is None else f"{factor * value:,.3g}{unit}"


def _percent(value: float | None) -> str:
    return "not yet" if value is None else f"{value:.0%}"


def _tile(title: str, value: str, unit: str) -> None:
    with ui.card():
        ui.label(title).classes("m-dim text-sm")
        ui.label(value).classes("m-number")
        ui.label(unit).classes("m-dim text-xs")
