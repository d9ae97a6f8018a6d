"""The placements editor: a list of placements, the chosen one as JSON, tried out on a user before it is saved."""

import re
from typing import Any

import msgspec
from nicegui import ui

from millirec.console.panels.placement_text import Misfit, check, text_of
from millirec.console.service.client import ApiClient
from millirec.console.widgets.answer_list import Json, answer_list, ids_in, marks, overlap, titles_of
from millirec.console.widgets.dialogs import ask_confirmation
from recsys.observability.text import printable
from recsys.recommender.placement import NAME_PATTERN, Placement

ORIGINS = {"ready-made": "grey", "settings": "light-blue-8", "operator": "deep-orange"}
SAID = {"ready-made": "ready-made", "settings": "configured", "operator": "changed"}


class PlacementEditor:
    """The list of placements, the editor and the preview."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._by_name: dict[str, Json] = {}
        self._name = ""
        self._placement: Placement | None = None

    async def build(self, name: str) -> None:
        """Draw the editor with a placement chosen, the default one where `name` does not exist."""
        with ui.element("div").classes("w-full grid gap-4 items-start grid-cols-1 lg:grid-cols-[18rem_1fr]"):
            with ui.card().classes("w-full min-w-0"):
                self._list = ui.list().props("dense separator").classes("w-full")
                self._new = ui.input("New placement").props('dense outlined debounce=200 hint="such as checkout"')
                self._new.classes("w-full").on("keydown.enter", self._start)
                self._new.validation = {"Small letters, digits, - and _": lambda name: not name or _is_name(name)}
                ui.button("Start from default", on_click=self._start).props("no-caps outline dense").classes("w-full")
            with ui.column().classes("w-full min-w-0 gap-4"):
                self._build_editor()
                self._build_preview()
                with ui.card().classes("w-full"):
                    ui.label("History").classes("font-medium")
                    self._history = ui.column().classes("w-full gap-1")
        await self._refresh()
        await self._choose(name if name in self._by_name else "default")

    def _build_editor(self) -> None:
        with ui.card().classes("w-full"):
            with ui.row().classes("w-full items-center gap-2"):
                self._title = ui.label().classes("font-medium")
                self._origin = ui.badge().props("outline")
                ui.space()
                self._take_back = ui.button("Take back", on_click=self._ask_to_take_back).props(
                    "outline color=negative"
                )
                self._save = ui.button("Save", on_click=self._ask_to_save).props("no-caps unelevated")
            self._text = ui.textarea(label="Placement, as JSON").props(
                "outlined autogrow debounce=400 spellcheck=false"
            )
            self._text.classes("w-full").props('input-class="m-mono text-sm leading-snug"')
            self._text.on_value_change(self._check)
            self._verdict = ui.column().classes("w-full gap-0").props("role=status")
            with ui.expansion("What the fields mean").props("dense").classes("w-full"):
                ui.markdown(Placement.__doc__ or "")

    def _build_preview(self) -> None:
        with ui.card().classes("w-full"):
            ui.label("Preview").classes("font-medium")
            with ui.row().classes("w-full items-center gap-3"):
                self._user = ui.input("User id").props('clearable dense outlined hint="nobody: a new visitor"')
                self._user.on("keydown.enter", self._preview)
                ui.button("Try it out", on_click=self._preview).props("no-caps unelevated")
            self._answers = ui.column().classes("w-full")

    async def _refresh(self) -> None:
        answer = await self._api.get_raw("/placements")
        self._by_name = {entry["name"]: entry for entry in answer["placements"]}
        self._list.clear()
        with self._list:
            for name, entry in self._by_name.items():
                with ui.item(on_click=lambda name=name: self._choose(name)).props(f'aria-label="placement {name}"'):
                    with ui.item_section():
                        ui.item_label(name)
                    with ui.item_section().props("side"):
                        ui.badge(SAID[entry["origin"]], color=ORIGINS[entry["origin"]]).props("outline")

    async def _choose(self, name: str) -> None:
        self._name = name
        entry = self._by_name.get(name)
        self._title.set_text(name)
        self._origin.set_text("new" if entry is None else _origin_text(entry))
        self._take_back.set_visibility(entry is not None and entry["origin"] == "operator")
        self._text.set_value(text_of(Placement() if entry is None else entry["placement"]))
        self._answers.clear()
        self._history.clear()
        changes = [] if entry is None else (await self._api.get_raw(f"/placements/{name}/history"))["changes"]
        with self._history:
            _history(changes, self._text.set_value)

    async def _start(self) -> None:
        name = (self._new.value or "").strip()
        if _is_name(name):
            self._new.set_value("")
            await self._choose(name)

    def _check(self) -> None:
        laid_out, result = check(self._text.value or "")
        self._placement = None if isinstance(result, Misfit) else result
        self._save.set_enabled(self._placement is not None)
        self._verdict.clear()
        with self._verdict:
            if not isinstance(result, Misfit):
                ui.label("A valid placement.").classes("text-sm text-positive")
                return
            ui.label(result.words).classes("text-sm text-negative font-medium")
            line = laid_out.splitlines()[result.line - 1 : result.line]
            for text in line:
                ui.label(text.strip()).classes("text-sm m-mono break-all border-l-4 border-red-500 pl-2")

    async def _preview(self) -> None:
        if self._placement is None:
            ui.notify("Mend the placement first.", type="warning")
            return
        whom: Json = {"user_id": self._user.value} if self._user.value else {}
        entry = self._by_name.get(self._name)
        variants = [self._placement] if entry is None else [entry["placement"], self._placement]
        answers = [
            await self._api.post(
                "/recommend/preview", {**whom, "explain": True, "placement": msgspec.to_builtins(variant)}
            )
            for variant in variants
        ]
        lists = [[item["item_id"] for item in answer["items"]] for answer in answers]
        titles = await titles_of(self._api, ids_in(answers))
        self._answers.clear()
        with self._answers:
            if len(answers) == 2:
                ui.label(f"{overlap(*lists):.0%} of the items are in both").classes("font-medium")
            with ui.element("div").classes("w-full grid gap-6 grid-cols-1 xl:grid-cols-2"):
                for position, answer in enumerate(answers):
                    with ui.column().classes("w-full min-w-0 gap-1"):
                        ui.label("Now" if position + 1 < len(answers) else "As edited").classes("font-medium")
                        item_marks = marks(lists[position], lists[1 - position]) if len(answers) == 2 else ()
                        answer_list(answer["items"], titles, item_marks)
                        if not answer["items"]:
                            ui.label("No item passes: loosen the filter, or add a fallback.")

    async def _ask_to_save(self) -> None:
        if self._placement is None:
            return
        if await ask_confirmation(f"Save {self._name}? It answers so on every replica within a second.", "Save"):
            await self._api.put(f"/placements/{self._name}", msgspec.to_builtins(self._placement))
            ui.notify(f"{self._name} is saved", type="positive")
            await self._refresh()
            await self._choose(self._name)

    async def _ask_to_take_back(self) -> None:
        if await ask_confirmation(f"Take back what was set for {self._name}?", "Take back"):
            await self._api.delete(f"/placements/{self._name}")
            ui.notify(f"{self._name} is taken back", type="positive")
            await self._refresh()
            await self._choose(self._name if self._name in self._by_name else "default")


def _history(changes: list[Json], load: Any) -> None:
    if not changes:
        ui.label("Nobody changed it at run time. What you save here is kept with your name.").classes("m-dim")
    for change in reversed(changes):
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            ui.label(change["changed_at"][:19].replace("T", " ")).classes("text-sm tabular-nums whitespace-nowrap")
            said = "took it back" if change["placement"] is None else "set it"
            ui.label(printable(f"{change['actor']} {said}")).classes("grow")
            if change["placement"] is not None:
                text = text_of(change["placement"])
                ui.button("Edit this one", on_click=lambda text=text: load(text)).props("no-caps flat dense")


def _origin_text(entry: Json) -> str:
    return printable(f"changed by {entry['actor']}") if entry["origin"] == "operator" else SAID[entry["origin"]]


def _is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN, text) is not None
