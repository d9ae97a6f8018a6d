"""The inspector of one user: the record, the answer and why, and a second version's answer beside it."""

from urllib.parse import quote

from nicegui import ui

from millirec.console.service.client import ApiClient
from millirec.console.widgets.answer_list import Json, Mark, answer_list, ids_in, marks, overlap, title_of, titles_of
from millirec.console.widgets.notices import empty

AS_SERVED = "as served now"
HISTORY = 100
BESIDE = "lg:grid-cols-[2fr_3fr]"
TYPES = {"purchase": "shopping_bag", "add_to_cart": "add_shopping_cart", "click": "ads_click", "view": "visibility"}
FALLBACK_LEVELS = {
    "embedding": "the user's vector, fresh from the stream",
    "folded": "a vector folded in from the history just now",
    "snapshot": "the user's vector as of training",
    "session": "this visit alone",
    "trending": "nothing is known of the user: what is trending",
    "popular": "nothing is known of the user: what is popular",
}


class UserInspector:
    """The panel that shows a user's record and answers; an answer that comes after a newer request is dropped."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._turn = 0

    async def build(self, user_id: str) -> None:
        """Draw the panel for a user, who may be empty."""
        placements = [placement["name"] for placement in (await self._api.get("/placements"))["placements"]]
        loaded = (await self._api.get("/versions"))["loaded"]
        with ui.row().classes("w-full items-center gap-3"):
            self._user = ui.input("User id", value=user_id).props("autofocus clearable dense outlined")
            self._user.on("keydown.enter", self.look_up)
            ui.button("Show", on_click=self.look_up).props("no-caps unelevated")
            self._placement = _choice("Placement", placements, "default").on_value_change(self._ask)
            self._version = _choice("Answered by", [AS_SERVED, *loaded], AS_SERVED).on_value_change(self._ask)
            self._second_version = _choice("Compare with", loaded, None).props("clearable").on_value_change(self._ask)
        with ui.row().classes("w-full items-center gap-x-4"):
            self._own = ui.switch("The placement's diversity", value=True).on_value_change(self._ask)
            self._diversity = ui.slider(min=0, max=1, step=0.05, value=0.3).props('label aria-label="Diversity"')
            self._diversity.classes("max-w-xs max-sm:mx-3").bind_enabled_from(self._own, "value", lambda own: not own)
            self._diversity.on("update:model-value", self._ask, throttle=0.4, leading_events=False)
            self._k = ui.number("How many", value=10, min=1, max=50, precision=0).props("dense outlined debounce=300")
            self._k.classes("w-24").on_value_change(self._ask)
        with ui.element("div").classes(f"w-full grid gap-4 items-start grid-cols-1 {BESIDE}") as self._grid:
            self._record = ui.card().classes("w-full min-w-0")
            self._answers = ui.card().classes("w-full min-w-0")
        with ui.column().classes("w-full") as self._nobody:
            empty("Nobody is chosen", "Type a user's id and press Enter: what is known of them, their answer and why.")
        await self.look_up()

    async def look_up(self) -> None:
        """Show the record and the answer of the user whose id is in the field."""
        user_id = (self._user.value or "").strip()
        self._grid.set_visibility(bool(user_id))
        self._nobody.set_visibility(not user_id)
        if not user_id:
            return
        self._turn += 1
        turn = self._turn
        user = await self._api.get(f"/users/{quote(user_id, safe='')}")
        history = user["interactions"][:HISTORY]
        titles = await titles_of(self._api, (entry["item_id"] for entry in history))
        if turn != self._turn:
            return
        self._record.clear()
        with self._record:
            _record(user, history, titles)
        await self._ask()

    async def _ask(self) -> None:
        user_id = (self._user.value or "").strip()
        if not user_id:
            return
        self._turn += 1
        turn = self._turn
        body: Json = {"user_id": user_id, "placement": self._placement.value, "k": int(self._k.value or 10)}
        body |= {"explain": True} | ({} if self._own.value else {"diversity": self._diversity.value})
        versions = [self._version.value, *([] if self._second_version.value is None else [self._second_version.value])]
        answers = [await self._answer(version, body) for version in versions]
        titles = await titles_of(self._api, ids_in(answers))
        if turn == self._turn:
            self._show(answers, titles)

    def _show(self, answers: list[Json], titles: dict[str, str]) -> None:
        # Two answers take the whole width, and the record goes below them.
        wide = len(answers) == 2
        self._grid.classes(remove=BESIDE if wide else "", add="" if wide else BESIDE)
        self._record.classes(remove="" if wide else "order-last", add="order-last" if wide else "")
        self._answers.clear()
        with self._answers:
            _answers(answers, titles)

    async def _answer(self, version: str, body: Json) -> Json:
        path = "/recommend" if version == AS_SERVED else f"/versions/{version}/recommend"
        answer: Json = await self._api.post(path, body)
        return answer


def _choice(label: str, options: list[str], value: str | None) -> ui.select:
    return ui.select(options, label=label, value=value).props("dense outlined options-dense").classes("min-w-44")


def _record(user: Json, history: list[Json], titles: dict[str, str]) -> None:
    ui.label(f"User {user['user_id']}").classes("font-medium")
    if not history and not user["in_snapshot"]:
        ui.label("Nothing is known of this user.").classes("font-medium")
        ui.label(
            "There are no interactions in the feature store, and the version in service has not learned of them. "
            "Ids are case-sensitive; a new user appears here with their first event."
        ).classes("m-dim")
        return
    with ui.row().classes("gap-2"):
        ui.badge("in the snapshot" if user["in_snapshot"] else "not in the snapshot", color="teal").props("outline")
        fresh = "fresh vector stored" if user["embedding_stored"] else "no fresh vector stored"
        ui.badge(fresh, color="light-blue-8").props("outline")
    count = len(user["interactions"])
    shown = f", the newest {HISTORY}" if count > HISTORY else ""
    ui.label(f"{count} remembered interactions{shown}").classes("text-sm m-dim")
    with ui.element("div").classes("w-full max-h-96 overflow-y-auto").props("tabindex=0"):
        for entry in history:
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                ui.icon(TYPES.get(entry["type"], "bolt")).classes("m-dim").tooltip(entry["type"])
                with ui.column().classes("grow gap-0 min-w-0"):
                    ui.label(title_of(entry["item_id"], titles)).classes("truncate w-full")
                    ui.label(f"{entry['item_id']} · {entry['type']}").classes("text-xs m-dim")
                moment = entry["occurred_at"].replace("T", " ")[:16]
                ui.label(moment).classes("text-xs m-dim tabular-nums whitespace-nowrap shrink-0")


def _answers(answers: list[Json], titles: dict[str, str]) -> None:
    lists = [[item["item_id"] for item in answer["items"]] for answer in answers]
    if len(answers) == 2:
        share = overlap(*lists)
        ui.label(f"{share:.0%} of the items are in both").classes("font-medium")
    columns = "grid-cols-1 md:grid-cols-2" if len(answers) == 2 else "grid-cols-1"
    with ui.element("div").classes(f"w-full grid gap-6 {columns}"):
        for position, answer in enumerate(answers):
            marked: list[Mark] = marks(lists[position], lists[1 - position]) if len(answers) == 2 else []
            with ui.column().classes("w-full min-w-0 gap-1"):
                _heading(answer)
                answer_list(answer["items"], titles, marked)


def _heading(answer: Json) -> None:
    ui.label(answer["index_version"]).classes("font-medium")
    with ui.row().classes("gap-2 items-center"):
        ui.badge(answer["fallback_level"]).tooltip(FALLBACK_LEVELS.get(answer["fallback_level"], ""))
        if "variant" in answer:
            ui.badge(answer["variant"], color="purple")
        if answer["degraded"]:
            ui.badge("degraded", color="warning").tooltip("The user's features could not be read.")
        ui.label(FALLBACK_LEVELS.get(answer["fallback_level"], "")).classes("text-sm m-dim")
    if "short" in answer:
        ui.label(f"Fewer than asked for: {answer['short']}").classes("text-sm")
