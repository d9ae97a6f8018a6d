"""Inspector: type a user or an item, and see what is known and why answers are as they are."""

from nicegui import ui

from millirec.console.panels.inspect_item import ItemInspector
from millirec.console.panels.inspect_user import UserInspector
from millirec.console.service.client import ApiClient
from millirec.console.widgets.page_registry import page


@page("/inspector", title="Inspector", icon="person_search", key="i", order=40)
async def inspector(api: ApiClient) -> None:
    """Draw the inspectors of a user and of an item."""
    query = ui.context.client.request.query_params
    user_id, item_id = query.get("user", ""), query.get("item", "")
    with ui.tabs().props("no-caps inline-label align=left dense") as tabs:
        ui.tab("user", "A user", icon="person")
        ui.tab("item", "An item", icon="sell")
    with (
        ui.tab_panels(tabs, value="item" if item_id else "user", animated=False)
        .classes("w-full bg-transparent")
        .props("keep-alive")
    ):
        with ui.tab_panel("user").classes("p-0"):
            await UserInspector(api).build(user_id)
        with ui.tab_panel("item").classes("p-0"):
            await ItemInspector(api).build(item_id, user_id)
