"""Data quality on the screen: the results of imports, and the gate's checks of the newest data."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nicegui import ui

Json = dict[str, Any]
DATA_CHECKS = {"gate.max_shrink", "gate.max_unknown", "gate.max_type_shift", "gate.max_item_shift"}


def imports_card(imports: Sequence[Json]) -> None:
    """Draw the imports, the last first; each file with its counts and reasons."""
    with ui.card().classes("w-full"):
        ui.label("Imports").classes("font-medium")
        if not imports:
            ui.label("Nothing was imported on this machine. `millirec import FILE` reads CSV, JSON Lines or Parquet.")
        for position, report in enumerate(imports):
            name = f"{Path(report['file']).name}: {report['accepted']:,} of {report['rows']:,} rows accepted"
            finished = f"{datetime.fromisoformat(report['finished_at']):%Y-%m-%d %H:%M} UTC"
            with ui.expansion(name, caption=finished, value=position == 0).classes("w-full"):
                _report(report)


def _report(report: Json) -> None:
    parts = [("accepted", report["accepted"], "bg-positive"), ("merged", report["merged"], "bg-info")]
    parts += [
        (f"rejected: {reason}", n, "bg-negative")
        for reason, n in sorted(report["rejected"].items(), key=lambda pair: -pair[1])
    ]
    with ui.element("div").classes("grid gap-x-3 gap-y-1 w-full text-sm items-center") as grid:
        grid.style("grid-template-columns: minmax(8rem, max-content) max-content 1fr")
        for name, number, colour in parts:
            ui.label(name).classes("break-words")
            ui.label(f"{number:,}").classes("text-right tabular-nums")
            share = number / report["rows"] if report["rows"] else 0.0
            ui.element("div").classes(f"h-2 rounded {colour}").style(f"width: {share:.2%}; min-width: 2px")
    if report.get("first") and report.get("last"):
        first, last = report["first"][:10], report["last"][:10]
        ui.label(f"Accepted rows are from {first} to {last}.").classes("text-sm m-dim")
    if report.get("rejected_rows"):
        ui.label(f"Rejected rows: {report['rejected_rows']}").classes("text-sm m-dim break-all")


def checks_card(newest: Json | None) -> None:
    """Draw the gate's checks of the data that the newest version was trained on."""
    with ui.card().classes("w-full"):
        ui.label("What the gate says of the newest data").classes("font-medium")
        if newest is None:
            ui.label("There is no version yet: train one with `millirec train`.").classes("m-dim")
            return
        ui.link(newest["version"], f"/versions?version={newest['version']}")
        data_checks = [check for check in newest["checks"] if check["setting"] in DATA_CHECKS]
        if not data_checks:
            ui.label("Its data was not compared with an earlier snapshot: the next training compares.")
        for check in data_checks:
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                passed = check["passed"]
                ui.icon("check_circle" if passed else "cancel", color="positive" if passed else "negative")
                ui.label(f"{check['name']}: {check['measured']}, limit: {check['limit']}").classes("grow")
