"""Placements: what there is, edited as JSON, tried out on a user, saved and taken back."""

from nicegui import ui

from millirec.console.panels.placement_editor import PlacementEditor
from millirec.console.service.client import ApiClient
from millirec.console.widgets.page_registry import page


@page("/placements", title="Placements", icon="view_carousel", key="p", order=70)
async def placements(api: ApiClient) -> None:
    """Draw the placements editor."""
    await PlacementEditor(api).build(ui.context.client.request.query_params.get("name", ""))
