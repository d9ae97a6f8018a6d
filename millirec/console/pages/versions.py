"""Versions: what was trained, how good it is, what changed, what is in service, and who put it there."""

from datetime import datetime
from typing import Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from millirec.console.panels.rollout_dialog import move
from millirec.console.panels.version_compare import compare
from millirec.console.panels.version_list import VersionList
from millirec.console.panels.version_plot import VersionPlot
from millirec.console.service.client import ApiClient, ApiProblem
from millirec.console.service.monitor import Monitor
from millirec.console.widgets.notices import banner, empty
from millirec.console.widgets.page_registry import page
from recsys.models.manifest import RECOMMENDER

HISTORY = 200
COLUMNS = [
    {"name": name, "label": label, "field": name, "align": "left", **options}
    for name, label, options in (
        ("at", "When (UTC)", {"sortable": True}),
        ("alias", "What", {"sortable": True}),
        ("version", "Version", {"classes": "m-mono"}),
        ("actor", "Who", {"sortable": True}),
        ("reason", "Why", {"style": "white-space: normal; min-width: 160px"}),
    )
]

ITEM = """<div class="col-12 q-py-xs"><div class="m-entry"><div>{{ props.row.alias }}
<span class="m-mono">{{ props.row.version }}</span></div>
<div class="m-dim text-sm">{{ props.row.at }}, {{ props.row.actor }}: {{ props.row.reason }}</div></div></div>"""
"""A move on a phone."""


@page("/versions", title="Versions", icon="inventory_2", key="v", order=20)
async def versions(api: ApiClient) -> None:
    """Draw the versions."""
    await VersionsPage(api).build()


class VersionsPage:
    """The page with the list, comparison, plot and history of versions."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._monitor: Monitor = ui.context.client.request.state.monitor
        self._answer: dict[str, Any] = {}
        self._model = str(ui.context.client.request.query_params.get("model") or RECOMMENDER)

    async def build(self) -> None:
        """Draw the page, with a choice of the model where there are several."""
        names = [entry["model"] for entry in await _models(self._api)]
        if len(names) > 1:
            ui.select(names, label="Model", value=self._model, on_change=self._choose).classes("w-64")
        self._list = ui.column().classes("w-full gap-3")
        self._compared = ui.column().classes("w-full gap-3")
        self._compared.set_visibility(False)
        self._plot = ui.card().classes("w-full min-w-0")
        self._history = ui.card().classes("w-full min-w-0")
        await self._reload()

    async def _choose(self, event: ValueChangeEventArguments[Any]) -> None:
        self._model = event.value
        self._compared.set_visibility(False)
        await self._reload()

    async def _reload(self) -> None:
        self._answer = await self._api.get("/versions", model=self._model)
        version = ui.context.client.request.query_params.get("version")
        for part in (self._list, self._plot, self._history):
            part.clear()
        with self._list:
            VersionList(self._api, self._reload, self._compare, self._change).build(self._answer, version, self._model)
        with self._plot:
            VersionPlot(self._answer["versions"])
        with self._history:
            await _show_history(self._api, self._model)

    async def _compare(self, first: str, second: str) -> None:
        by_name = {version["version"]: version for version in self._answer["versions"]}
        self._compared.clear()
        self._compared.set_visibility(True)
        with self._compared:
            await compare(self._api, by_name[first], by_name[second])

    async def _change(self, path: str, reason: str, title: str) -> None:
        if self._model == RECOMMENDER:
            await move(self._api, self._monitor, path, reason, title)
        else:
            await self._api.post(path, {"reason": reason}, model=self._model)
        await self._reload()


async def _models(api: ApiClient) -> list[dict[str, Any]]:
    """Return the models of the registry; none where an earlier release wrote it, or the service is older."""
    try:
        models: list[dict[str, Any]] = (await api.get("/models"))["models"]
    except ApiProblem as problem:
        if problem.status not in {404, 405, 503}:
            raise
        return []
    return models


async def _show_history(api: ApiClient, model: str) -> None:
    ui.label("History").classes("font-medium")
    try:
        moves = (await api.get("/versions/history", limit=HISTORY, model=model))["moves"]
    except ApiProblem as problem:
        if problem.status not in {404, 405}:
            raise
        banner("This service is older than the console and does not tell the history.", icon="history")
        return
    if not moves:
        empty("Nothing moved yet", "Promotions, rollbacks and rollouts are written down here.", "history")
        return
    rows = [{"key": position, **_row(record)} for position, record in enumerate(moves)]
    table = ui.table(rows=rows, columns=COLUMNS, row_key="key", pagination=10).classes("w-full")
    table.props('flat dense :grid="Quasar.Screen.lt.sm"').add_slot("item", ITEM)


def _row(move: dict[str, Any]) -> dict[str, str]:
    suffix = " (left)" if move.get("cleared") else ""
    at = datetime.fromisoformat(move["moved_at"])
    return {
        "at": f"{at:%Y-%m-%d %H:%M:%S}",
        "alias": move["alias"] + suffix,
        "version": move["version"],
        "actor": move["actor"],
        "reason": move["reason"],
    }
