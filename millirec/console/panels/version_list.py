"""The table of index versions, and what can be done with the selected ones."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient
from millirec.console.widgets.dialogs import ask_reason
from millirec.console.widgets.notices import empty

Json = dict[str, Any]
Reload = Callable[[], Awaitable[None]]
METRICS = ("recall@20", "ndcg@20", "coverage@20")
COLUMNS: list[Json] = [
    {"name": "version", "label": "Version", "field": "version", "align": "left", "classes": "m-mono", "sortable": True},
    {"name": "aliases", "label": "Points here", "field": "aliases", "align": "left"},
    {"name": "created", "label": "Trained (UTC)", "field": "created", "align": "left", "sortable": True},
    {"name": "summary", "label": "What it is", "field": "summary", "align": "left"},
    *({"name": metric, "label": metric, "field": metric, "sortable": True} for metric in METRICS),
]
ALIASES = """<q-td :props="props"><q-badge v-for="one in props.value" :key="one" class="q-mr-xs"
:outline="one !== 'live'" color="primary">{{ one }}</q-badge></q-td>"""

ITEM = """<div class="col-12 q-py-xs"><div class="m-entry row items-center no-wrap">
<q-checkbox v-model="props.selected" :aria-label="'tick ' + props.row.version"></q-checkbox><div>
<div><span class="m-mono">{{ props.row.version }}</span> <q-badge v-for="one in props.row.aliases" :key="one"
class="q-mr-xs" :outline="one !== 'live'" color="primary">{{ one }}</q-badge></div>
<div class="m-dim text-sm">{{ props.row.created }}, {{ props.row.summary }},
recall@20 {{ props.row['recall@20'] }}, ndcg@20 {{ props.row['ndcg@20'] }}</div></div></div></div>"""
"""A version on a phone."""


class VersionList:
    """`compare` gets the two versions that are ticked, the older one first; `change` promotes."""

    def __init__(
        self,
        api: ApiClient,
        reload: Reload,
        compare: Callable[[str, str], Awaitable[None]],
        change: Callable[[str, str, str], Awaitable[None]],
    ) -> None:
        self._api = api
        self._reload = reload
        self._compare = compare
        self._change = change
        self._versions: dict[str, Json] = {}

    def build(self, answer: Json, ticked: str | None, model: str) -> None:
        """Draw the answer of GET /versions about `model`."""
        self._model = model
        self._versions = {version["version"]: version for version in answer["versions"]}
        if not self._versions:
            empty("No version yet", "Train one: millirec train. It shows up here once it is published.", "inventory_2")
            return
        with ui.row().classes("w-full items-center gap-2"):
            self._promote = _button("Promote", "publish", self._promote_ticked, main=True)
            _button("Roll back", "undo", self._roll_back)
            self._pin = _button("Pin", "push_pin", self._pin_ticked)
            self._both = _button("Compare", "compare_arrows", self._compare_ticked)
            self._hint = ui.label().classes("m-dim text-sm")
        rows = [_row(version) for version in reversed(self._versions.values())]
        table = ui.table(rows=rows, columns=COLUMNS, row_key="version", selection="multiple", pagination=10)
        table.classes("w-full").props('flat :grid="Quasar.Screen.lt.sm"').add_slot("body-cell-aliases", ALIASES)
        table.add_slot("item", ITEM)
        table.selected = [row for row in rows if row["version"] == ticked]
        table.on_select(self._show)
        self._table = table
        self._show()

    @property
    def _ticked(self) -> list[str]:
        return sorted(row["version"] for row in self._table.selected)

    def _show(self) -> None:
        ticked = self._ticked
        version = self._versions[ticked[0]] if len(ticked) == 1 else None
        self._promote.set_enabled(version is not None and "live" not in version["aliases"])
        self._pin.set_enabled(version is not None)
        self._pin.text = "Unpin" if version is not None and _pinned(version) else "Pin"
        self._both.set_enabled(len(ticked) == 2)
        words = {0: "Tick a version to promote or pin it, two to compare them.", 1: f"{'. '.join(ticked)} is ticked."}
        self._hint.text = words.get(len(ticked), f"{len(ticked)} versions are ticked.")

    async def _promote_ticked(self) -> None:
        version = self._ticked[0]
        live = next((entry["version"] for entry in self._versions.values() if "live" in entry["aliases"]), "nothing")
        text = f"From now on {version} answers everybody, in place of {live}. A rollback takes it back in a second."
        reason = await ask_reason(self._api, f"Promote {version}?", text, "Promote")
        if reason:
            await self._change(f"/versions/{version}/promote", reason, f"Promoting {version}")

    async def _roll_back(self) -> None:
        previous = next((entry["version"] for entry in self._versions.values() if "previous" in entry["aliases"]), None)
        named = previous or "the version that was live before"
        text = f"{named} answers everybody again. What was live stays stored, and can be promoted again."
        reason = await ask_reason(self._api, "Roll back?", text, "Roll back", danger=True)
        if reason:
            await self._change("/versions/rollback", reason, f"Rolling back to {named}")

    async def _pin_ticked(self) -> None:
        version = self._versions[self._ticked[0]]
        verb, text = (
            ("Unpin", "Pruning may delete it again.") if _pinned(version) else ("Pin", "Pruning never deletes it.")
        )
        reason = await ask_reason(self._api, f"{verb} {version['version']}?", text, verb)
        if reason:
            path = f"/versions/{version['version']}/{verb.lower()}"
            await self._api.post(path, {"reason": reason}, model=self._model)
            await self._reload()

    async def _compare_ticked(self) -> None:
        first, second = self._ticked
        await self._compare(first, second)


def _row(version: Json) -> Json:
    created = datetime.fromisoformat(version["created_at"])
    measured = {name: f"{version['metrics'][name]:.4f}" if name in version["metrics"] else "" for name in METRICS}
    return {
        "version": version["version"],
        "aliases": version["aliases"],
        "created": f"{created:%Y-%m-%d %H:%M}",
        "summary": version["summary"],
        **measured,
    }


def _pinned(version: Json) -> bool:
    return any(alias.startswith("pin") for alias in version["aliases"])


def _button(words: str, icon: str, action: Callable[[], Awaitable[None]], *, main: bool = False) -> ui.button:
    return ui.button(words, icon=icon, on_click=action).props("no-caps unelevated" if main else "no-caps outline")
