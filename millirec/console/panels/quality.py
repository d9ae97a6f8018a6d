"""Data quality on the screen: the results of imports, and the gate's checks of the newest data."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nicegui import ui

from ingest.batch.report import FileReport
from recsys.observability.printable import printable

DATA_CHECKS = {"gate.max_shrink", "gate.max_unknown", "gate.max_type_shift", "gate.max_item_shift"}


def imports_card(imports: Sequence[tuple[datetime, FileReport]]) -> None:
    """Draw the imports, the last first; each file with its counts and reasons."""
    with ui.card().classes("w-full"):
        ui.label("Imports").classes("font-medium")
        if not imports:
            ui.label("Nothing was imported on this machine. `millirec import FILE` reads CSV, JSON Lines or Parquet.")
        for position, (when, report) in enumerate(imports):
            counts = report.counts
            name = f"{printable(Path(report.file).name)}: {counts.accepted:,} of {counts.rows:,} rows accepted"
            with ui.expansion(name, caption=f"{when:%Y-%m-%d %H:%M} UTC", value=position == 0).classes("w-full"):
                _report(report)


def _report(report: FileReport) -> None:
    counts = report.counts
    parts = [("accepted", counts.accepted, "bg-positive"), ("merged", counts.merged, "bg-info")]
    parts += [
        (f"rejected: {reason}", n, "bg-negative")
        for reason, n in sorted(counts.rejected.items(), key=lambda pair: -pair[1])
    ]
    with ui.element("div").classes("grid gap-x-3 gap-y-1 w-full text-sm items-center") as grid:
        grid.style("grid-template-columns: minmax(8rem, max-content) max-content 1fr")
        for name, number, colour in parts:
            ui.label(printable(name)).classes("break-words")
            ui.label(f"{number:,}").classes("text-right tabular-nums")
            share = number / counts.rows if counts.rows else 0.0
            ui.element("div").classes(f"h-2 rounded {colour}").style(f"width: {share:.2%}; min-width: 2px")
    if counts.first is not None and counts.last is not None:
        ui.label(f"Accepted rows are from {counts.first:%Y-%m-%d} to {counts.last:%Y-%m-%d}.").classes("text-sm m-dim")
    if report.rejected_rows is not None:
        ui.label(printable(f"Rejected rows: {report.rejected_rows}")).classes("text-sm m-dim break-all")


def checks_card(newest: tuple[str, Sequence[dict[str, Any]]] | None) -> None:
    """Draw the gate's checks of the data that the newest version was trained on."""
    with ui.card().classes("w-full"):
        ui.label("What the gate says of the newest data").classes("font-medium")
        if newest is None:
            ui.label("There is no version yet: train one with `millirec train`.").classes("m-dim")
            return
        version, checks = newest
        ui.link(version, f"/versions?version={version}")
        data_checks = [check for check in checks if check.get("setting") in DATA_CHECKS]
        if not data_checks:
            ui.label("Its data was not compared with an earlier snapshot: the next training compares.")
        for check in data_checks:
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                passed = check["passed"]
                ui.icon("check_circle" if passed else "cancel", color="positive" if passed else "negative")
                ui.label(printable(f"{check['name']}: {check['measured']}, asked: {check['limit']}")).classes("grow")
