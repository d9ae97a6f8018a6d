"""Dead letters on the screen: counted by reason, shown, replayed, and discarded after a question."""

from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

from nicegui import ui
from nicegui.events import GenericEventArguments

from millirec.console.service.admin_store import AdminStore
from millirec.console.service.client import ApiClient, may_administer
from millirec.console.widgets.dialogs import ask_confirmation, ask_reason
from millirec.console.widgets.notices import empty
from recsys.errors import RecsysError
from recsys.observability.printable import printable
from recsys.stores.dead_letters.protocol import Content, DeadLetter, LetterQuery, Status

T = TypeVar("T")
LIMIT = 1_000
SHOWN_BYTES = 4_000
ALL = "all"
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

    def __init__(self, admin_store: AdminStore, api: ApiClient) -> None:
        self._admin_store = admin_store
        self._api = api
        self._letters: dict[str, DeadLetter] = {}

    async def build(self) -> None:
        """Draw the filters, the table and its buttons."""
        with ui.row().classes("w-full items-center gap-3"):
            self._status = ui.select(
                [*(status.value for status in Status), ALL], label="Status", value=Status.WAITING.value
            )
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
        await self.refresh()

    async def refresh(self) -> None:
        """Load the letters of the filters and draw them."""
        await may_administer(self._api)
        status = None if self._status.value == ALL else Status(self._status.value)
        query = LetterQuery(status, (self._reason.value or "").strip(), limit=LIMIT)
        self._summary.clear()
        try:
            letters = await self._admin_store.letters(query)
        except RecsysError as error:
            letters = []
            with self._summary:
                ui.label(printable(f"Dead letters cannot be read: {error}")).classes("text-negative")
                ui.label("The console needs the settings `log.path` of the consumers, and their disk or bucket.")
        else:
            with self._summary:
                _summary(letters, status)
        self._letters = {letter.letter: letter for letter in letters}
        self._table.rows = [_row(letter) for letter in letters]
        self._table.selected = []
        self._table.set_visibility(bool(letters))
        self._actions.set_visibility(bool(letters))
        self._count()

    def _count(self) -> None:
        self._chosen.set_text(f"{len(self._picked())} of {len(self._letters)} chosen")

    def _picked(self) -> list[DeadLetter]:
        return [self._letters[row["letter"]] for row in self._table.selected if row["letter"] in self._letters]

    async def _open(self, event: GenericEventArguments) -> None:
        letter = self._letters.get(event.args[1]["letter"])
        if letter is not None:
            await self._show(letter)

    async def _open_chosen(self) -> None:
        for letter in self._picked()[:1]:
            await self._show(letter)

    async def _show(self, letter: DeadLetter) -> None:
        content = await self._tried(self._admin_store.content(letter))
        with ui.dialog() as dialog, ui.card().classes("w-full").style("max-width: 48rem"):
            _inside(letter, content)
            ui.button("Close", on_click=dialog.close).props("no-caps flat autofocus").classes("self-end")
        await dialog
        dialog.delete()

    async def _ask_to_replay(self) -> None:
        chosen = self._picked()
        if not chosen:
            ui.notify("Choose letters first.")
        elif await ask_confirmation(f"Send {len(chosen)} messages again, as they came?", "Replay"):
            sent = await self._tried(self._admin_store.replay(chosen, self._api.person))
            if sent is not None:
                ui.notify(f"{sent} replayed; what is still wrong will wait again", type="positive")
            await self.refresh()

    async def _ask_to_discard(self) -> None:
        chosen = self._picked()
        if not chosen:
            ui.notify("Choose letters first.")
            return
        text = "Their messages are erased for good; what is left says who did it and why."
        reason = await ask_reason(self._api, f"Give {len(chosen)} letters up?", text, "Discard", danger=True)
        if reason:
            await self._tried(self._admin_store.discard(chosen, self._api.person, reason))
            await self.refresh()

    async def _tried(self, call: Awaitable[T]) -> T | None:
        await may_administer(self._api)
        try:
            return await call
        except RecsysError as error:
            ui.notify(printable(str(error)), type="negative")
            return None


def _summary(letters: list[DeadLetter], status: Status | None) -> None:
    if not letters:
        if status is Status.WAITING:
            empty("No message waits", "A message that cannot be applied comes here, with its reason.", "done_all")
        else:
            empty("No letter is like this", "Choose another status, or clear the reason.", "search_off")
        return
    suffix = f", the newest {LIMIT:,}" if len(letters) == LIMIT else ""
    ui.label(f"{len(letters):,} {'letters' if len(letters) > 1 else 'letter'}{suffix}").classes("font-medium")
    with ui.element("div").classes("grid gap-x-4 w-full text-sm").classes("grid-cols-[max-content_1fr]"):
        for (field, reason), count in Counter((letter.field, letter.reason) for letter in letters).most_common(8):
            ui.label(f"{count:,}").classes("text-right tabular-nums")
            ui.label(printable(f"{field}: {reason}")).classes("break-words min-w-0")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "letter": letter.letter,
        "status": letter.status.value,
        "field": printable(letter.field),
        "reason": printable(letter.reason),
        "seen": letter.times_seen,
        "size": letter.size,
        "last_seen": f"{letter.last_seen:{SECONDS}}",
    }


def _inside(letter: DeadLetter, content: Content | None) -> None:
    ui.label(f"Letter {letter.letter}").classes("font-medium")
    details = {
        "reason": f"{letter.field}: {letter.reason}",
        "status": letter.status.value,
        "from": f"{letter.partition}, offset {letter.offset:,}",
        "times seen": str(letter.times_seen),
        "first and last": f"{letter.first_seen:{SECONDS}} and {letter.last_seen:{SECONDS}}",
        "decided by": letter.by,
        "why": letter.why,
        "key": None if content is None else content.key,
    }
    headers = {} if content is None else {f"header {name}": readable(value) for name, value in content.headers.items()}
    with ui.element("div").classes("grid gap-x-4 gap-y-1 w-full text-sm").classes("grid-cols-[max-content_1fr]"):
        for name, value in {**details, **headers}.items():
            if value is not None:
                ui.label(printable(name)).classes("m-dim")
                ui.label(printable(value)).classes("break-all min-w-0")
    if content is None:
        ui.label("The message is erased.")
        return
    ui.label(f"The message, {len(content.value):,} bytes:").classes("text-sm m-dim")
    text = readable(content.value)
    ui.label(text).classes("w-full m-mono text-sm whitespace-pre-wrap break-all max-h-80 overflow-auto").props(
        "tabindex=0"
    )


def readable(value: bytes) -> str:
    """Return bytes as printable text where they are UTF-8, else as a Python literal, cut where they are long."""
    try:
        text = printable(value[:SHOWN_BYTES].decode(), lines=True)
    except UnicodeDecodeError:
        text = repr(value[:SHOWN_BYTES])
    return text if len(value) <= SHOWN_BYTES else f"{text}... ({len(value):,} bytes)"
