"""Overview: how the service is, at a glance."""

from nicegui import ui

from millirec.console.client import ApiClient
from millirec.console.registry import page


@page("/", title="Overview", icon="dashboard", key="o", order=10)
async def overview(api: ApiClient) -> None:
    versions = await api.get("/versions")
    with ui.element("div").classes("m-tiles"):
        for title, value in (
            ("Version in service", versions["serving"] or "none"),
            ("Versions", len(versions["versions"])),
        ):
            with ui.card():
                ui.label(title).classes("m-dim text-sm")
                ui.label(str(value)).classes("m-number")
