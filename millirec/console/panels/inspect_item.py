"""The inspector of one item: its properties, similar items, and why it is or is not in a user's answer."""

from urllib.parse import quote

from nicegui import ui

from millirec.console.service.client import ApiClient
from millirec.console.widgets.answer_list import Json, answer_list, contributions, titles_of
from millirec.console.widgets.notices import empty

SIMILAR = 10
STAGES = {
    "available": "It is not available.",
    "filter": "A filter leaves it out.",
    "exclude": "The request leaves it out.",
    "seen": "The user had it before.",
    "min_score": "Its score is too low.",
    "candidates": "No source proposes it.",
    "max_per_category": "Its category has its places already.",
    "k": "Others come before it.",
}


class ItemInspector:
    """The panel that looks up an item and explains its place in a user's answer."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def build(self, item_id: str, user_id: str) -> None:
        """Draw the panel for an item and a user, either of which may be empty."""
        placements = [placement["name"] for placement in (await self._api.get("/placements"))["placements"]]
        with ui.row().classes("w-full items-center gap-3"):
            self._item = ui.input("Item id", value=item_id).props("autofocus clearable dense outlined")
            self._item.on("keydown.enter", self.look_up)
            ui.button("Show", on_click=self.look_up).props("no-caps unelevated")
        with ui.element("div").classes("w-full grid gap-4 items-start grid-cols-1 lg:grid-cols-2") as grid:
            self._properties = ui.card().classes("w-full min-w-0")
            self._similar = ui.card().classes("w-full min-w-0")
            with ui.card().classes("w-full min-w-0 lg:col-span-2"):
                ui.label("Why, or why not, for a user").classes("font-medium")
                with ui.row().classes("w-full items-center gap-3"):
                    self._user = ui.input("User id", value=user_id).props("clearable dense outlined")
                    self._user.on("keydown.enter", self._explain)
                    self._placement = ui.select(placements, label="Placement", value="default")
                    self._placement.props("dense outlined options-dense").classes("min-w-44")
                    self._k = ui.number("How many", value=10, min=1, max=500, precision=0)
                    self._k.props("dense outlined").classes("w-24")
                    ui.button("Explain", on_click=self._explain).props("no-caps unelevated")
                self._explained = ui.column().classes("w-full")
        self._grid = grid
        with ui.column().classes("w-full") as self._nothing:
            empty("No item is chosen", "Type an item's id and press Enter: what it is, what is similar, and why not.")
        await self.look_up()

    async def look_up(self) -> None:
        """Show the item whose id is in the field."""
        item_id = (self._item.value or "").strip()
        self._grid.set_visibility(bool(item_id))
        self._nothing.set_visibility(not item_id)
        if not item_id:
            return
        items = (await self._api.get("/items", item_id=[item_id]))["items"]
        self._properties.clear()
        self._similar.clear()
        self._explained.clear()
        with self._properties:
            _properties(item_id, items[0] if items else None)
        self._similar.set_visibility(bool(items))
        if items:
            path = f"/items/{quote(item_id, safe='')}/similar"
            answer = await self._api.get(path, k=SIMILAR)
            titles = await titles_of(self._api, (item["item_id"] for item in answer["items"]))
            with self._similar:
                ui.label("Goes to the same people").classes("font-medium")
                answer_list(answer["items"], titles)
                if not answer["items"]:
                    ui.label("Nothing is near it yet: the version in service has not learned its place.")

    async def _explain(self) -> None:
        item_id, user_id = (self._item.value or "").strip(), (self._user.value or "").strip()
        if not (item_id and user_id):
            return
        body = {
            "item_id": item_id,
            "user_id": user_id,
            "placement": self._placement.value,
            "k": int(self._k.value or 10),
        }
        answer = await self._api.post("/explain", body)
        parts = answer["why"]["contributions"] if "why" in answer else []
        titles = await titles_of(self._api, (part["item_id"] for part in parts))
        self._explained.clear()
        with self._explained:
            if "removed" in answer:
                removed = answer["removed"]
                ui.label(f"Not in the answer. {STAGES.get(removed['stage'], '')}").classes("font-medium")
                ui.label(f"Stage {removed['stage']}: {removed['reason']}.").classes("m-dim")
                return
            ui.label(f"In the answer, at rank {answer['rank']}, from {answer['why']['source']}.").classes("font-medium")
            contributions(parts, titles)


def _properties(item_id: str, item: Json | None) -> None:
    if item is None:
        ui.label(f"Nobody knows an item {item_id}").classes("font-medium")
        ui.label(
            "Ids are case-sensitive. A new item appears here within a second of PUT /items, and with the next version "
            "that learns from it."
        ).classes("m-dim")
        return
    properties = dict(item["properties"])
    ui.label(str(properties.pop("title", item_id))).classes("font-medium")
    with ui.row().classes("gap-2"):
        available = item["available"]
        ui.badge("available" if available else "not available", color="teal" if available else "negative").props(
            "outline"
        )
        ui.badge("learned" if item["trained"] else "placed by its properties", color="light-blue-8").props("outline")
    with ui.element("div").classes("grid gap-x-4 gap-y-1 w-full").classes("grid-cols-[max-content_1fr]"):
        for name, value in {"id": item_id, **properties}.items():
            ui.label(name).classes("m-dim")
            ui.label(", ".join(value) if isinstance(value, list) else str(value)).classes("break-words min-w-0")
