"""Dead letters on the screen: counted by reason, shown, replayed, and discarded after a question."""

import base64
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from millirec.console.service.client import ApiClient, ApiDown, ApiProblem
from millirec.console.widgets.dialogs import ask_confirmation, ask_reason
from millirec.console.widgets.notices import empty
from recsys.observability.text import printable

Json = dict[str, Any]
UNREADABLE = {404, 503}
"""Statuses of a service that cannot reach the log."""
ADVICE = "The service behind this console needs millirec[ingest], and to reach what consumers do: log, ingest.rejected."
WAITING, ALL = "waiting", "all"
STATUSES = [WAITING, "replayed", "discarded", ALL]
REPLAY_SECONDS = 70.0
LIMIT = 1_000
SHOWN_BYTES = 4_000
SECONDS = "%Y-%m-%d %H:%M:%S"
COLUMNS: list[dict[Any, Any]] = [
    {"name": "last_seen", "label": "Last seen", "field": "last_seen", "align": "left", "sortable": True},
    {"name": "field", "label": "Field", "field": "field", "align": "left", "sortable": True},
    {"name": "reason", "label": "Reason", "field": "reason", "align": "left", "sortable": True},
    {"name": "status", "label": "Status", "field": "status", "align": "left", "sortable": True},
    {"name": "seen", "label": "Times seen", "field": "seen", "sortable": True},
    {"name": "size", "label": "Bytes", "field": "size", "sortable": True},
]


class LettersTable:
    """One person's table; every decision is recorded with their name."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._letters: dict[str, Json] = {}

    async def build(self) -> None:
        """Draw the filters, the table and its buttons."""
        with ui.row().classes("w-full items-center gap-3"):
            self._status = ui.select(STATUSES, label="Status", value=WAITING)
            self._status.props("dense outlined options-dense").classes("min-w-36").on_value_change(self.refresh)
            self._reason = ui.input("Reason has in it").props("dense outlined clearable debounce=400")
            self._reason.on_value_change(self.refresh)
        self._summary = ui.column().classes("w-full gap-1")
        self._table = ui.table(columns=COLUMNS, rows=[], row_key="letter", selection="multiple", pagination=10)
        self._table.classes("w-full").props('flat dense :grid="Quasar.Screen.lt.sm"').on("rowClick", self._open)
        self._actions = ui.row().classes("w-full items-center gap-3")
        with self._actions:
            self._chosen = ui.label().classes("grow text-sm m-dim")
            ui.button("Look inside", on_click=self._open_chosen).props("no-caps outline")
            ui.button("Discard", on_click=self._ask_to_discard).props("no-caps outline color=negative")
            ui.button("Replay", on_click=self._ask_to_replay).props("no-caps unelevated")
        self._table.on_select(self._count)
        try:
            await self._load()
        except ApiProblem as problem:
            if problem.status not in UNREADABLE:
                raise
            self._draw_failure(problem)

    async def refresh(self) -> None:
        """Load the letters of the filters and draw them, or why they cannot be read."""
        try:
            await self._load()
        except (ApiDown, ApiProblem) as error:
            self._draw_failure(error)

    async def _load(self) -> None:
        reason = (self._reason.value or "").strip() or None
        answer = await self._api.get("/dead-letters", status=self._status.value, reason=reason, limit=LIMIT)
        self._draw(answer["letters"])
        with self._summary:
            _summary(answer["letters"], self._status.value)

    def _draw_failure(self, error: Exception) -> None:
        self._draw([])
        with self._summary:
            empty(f"Dead letters cannot be read: {error}", ADVICE, "cloud_off")

    def _draw(self, letters: list[Json]) -> None:
        self._summary.clear()
        self._letters = {letter["letter"]: letter for letter in letters}
        self._table.rows = [_row(letter) for letter in letters]
        self._table.selected = []
        self._table.set_visibility(bool(letters))
        self._actions.set_visibility(bool(letters))
        self._count()

    def _count(self) -> None:
        self._chosen.set_text(f"{len(self._picked())} of {len(self._letters)} chosen")

    def _picked(self) -> list[Json]:
        return [self._letters[row["letter"]] for row in self._table.selected if row["letter"] in self._letters]

    async def _open(self, event: GenericEventArguments) -> None:
        letter = self._letters.get(event.args[1]["letter"])
        if letter is not None:
            await self._show(letter)

    async def _open_chosen(self) -> None:
        for letter in self._picked()[:1]:
            await self._show(letter)

    async def _show(self, letter: Json) -> None:
        content = await self._answer(self._api.get_raw(f"/dead-letters/{letter['letter']}/message"))
        if content is None:
            return
        with ui.dialog() as dialog, ui.card().classes("w-full").style("max-width: 48rem"):
            _inside(content)
            ui.button("Close", on_click=dialog.close).props("no-caps flat autofocus").classes("self-end")
        await dialog
        dialog.delete()

    async def _ask_to_replay(self) -> None:
        chosen = self._picked()
        if not chosen:
            ui.notify("Choose letters first.")
        elif await ask_confirmation(f"Send {len(chosen)} messages again, as they came?", "Replay"):
            replayed = await self._decide("replay", chosen)
            if replayed is not None:
                ui.notify(f"{replayed} replayed; what is still wrong will wait again", type="positive")
            await self.refresh()

    async def _ask_to_discard(self) -> None:
        chosen = self._picked()
        if not chosen:
            ui.notify("Choose letters first.")
            return
        text = "Their messages are erased for good; what is left says who did it and why."
        reason = await ask_reason(self._api, f"Give {len(chosen)} letters up?", text, "Discard", danger=True)
        if reason:
            await self._decide("discard", chosen, reason=reason)
            await self.refresh()

    async def _decide(self, decision: str, chosen: list[Json], **body: str) -> int | None:
        """Replay or discard letters; return how many, or `None` after a notice of what went wrong."""
        # A key of one's own says who decides; of a shared one the service knows the key alone.
        body = body | ({"person": self._api.person} if self._api.shares_key else {})
        letters = {"letters": [letter["letter"] for letter in chosen]}
        call = self._api.post(f"/dead-letters/{decision}", letters | body, timeout=REPLAY_SECONDS)
        answer = await self._answer(call)
        return None if answer is None else int(answer["changed"])

    async def _answer(self, call: Awaitable[Any]) -> Any | None:
        try:
            return await call
        except (ApiDown, ApiProblem) as error:
            ui.notify(str(error), type="negative")
            return None


def _summary(letters: list[Json], status: str) -> None:
    if not letters:
        if status == WAITING:
            empty("No message waits", "A message that cannot be applied comes here, with its reason.", "done_all")
        else:
            empty("No letter is like this", "Choose another status, or clear the reason.", "search_off")
        return
    suffix = f", the newest {LIMIT:,}" if len(letters) == LIMIT else ""
    ui.label(f"{len(letters):,} {'letters' if len(letters) > 1 else 'letter'}{suffix}").classes("font-medium")
    with ui.element("div").classes("grid gap-x-4 w-full text-sm").classes("grid-cols-[max-content_1fr]"):
        for (field, reason), count in Counter((letter["field"], letter["reason"]) for letter in letters).most_common(8):
            ui.label(f"{count:,}").classes("text-right tabular-nums")
            ui.label(f"{field}: {reason}").classes("break-words min-w-0")


def _row(letter: Json) -> Json:
    copied = {name: letter[name] for name in ("letter", "status", "field", "reason", "size")}
    return copied | {"seen": letter["times_seen"], "last_seen": _time(letter["last_seen"])}


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):{SECONDS}}"


def _inside(content: Json) -> None:
    """Draw a letter and its message; what the message holds is written out safely."""
    letter = content["letter"]
    ui.label(f"Letter {letter['letter']}").classes("font-medium")
    details = {
        "reason": f"{letter['field']}: {letter['reason']}",
        "status": letter["status"],
        "from": f"{letter['partition']}, offset {letter['offset']:,}",
        "times seen": str(letter["times_seen"]),
        "first and last": f"{_time(letter['first_seen'])} and {_time(letter['last_seen'])}",
        "decided by": letter.get("by"),
        "why": letter.get("comment"),
        "key": letter.get("key"),
    }
    headers = {f"header {name}": readable(base64.b64decode(value)) for name, value in content["headers"].items()}
    with ui.element("div").classes("grid gap-x-4 gap-y-1 w-full text-sm").classes("grid-cols-[max-content_1fr]"):
        for name, value in {**details, **headers}.items():
            if value is not None:
                ui.label(printable(name)).classes("m-dim")
                ui.label(printable(value)).classes("break-all min-w-0")
    if content.get("value") is None:
        ui.label("The message is erased.")
        return
    message = base64.b64decode(content["value"])
    ui.label(f"The message, {len(message):,} bytes:").classes("text-sm m-dim")
    ui.label(readable(message)).classes(
        "w-full m-mono text-sm whitespace-pre-wrap break-all max-h-80 overflow-auto"
    ).props("tabindex=0")


def readable(value: bytes) -> str:
    """Return bytes as printable text where they are UTF-8, else as a Python literal, cut where they are long."""
    try:
        text = printable(value[:SHOWN_BYTES].decode(), lines=True)
    except UnicodeDecodeError:
        text = repr(value[:SHOWN_BYTES])
    return text if len(value) <= SHOWN_BYTES else f"{text}... ({len(value):,} bytes)"
