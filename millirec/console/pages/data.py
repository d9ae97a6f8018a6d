"""Data quality: what imports made of their rows, and what the gate says of the newest data. Dead letters."""

from collections.abc import Awaitable
from typing import Any

from nicegui import ui

from millirec.console.panels.dead_letters import LettersTable
from millirec.console.panels.quality import checks_card, imports_card
from millirec.console.service.client import ApiClient, ApiProblem
from millirec.console.widgets.notices import empty
from millirec.console.widgets.page_registry import page

ADVICE = (
    "The service that the console asks needs millirec[ingest], and the reach of a consumer: log and ingest.rejected."
)


@page("/data", title="Data quality", icon="fact_check", key="d", order=50)
async def data_quality(api: ApiClient) -> None:
    """Draw the page on data quality."""
    versions = (await api.get("/versions"))["versions"]
    newest = versions[-1]["version"] if versions else None
    with ui.element("div").classes("m-grid"):
        checks_card(None if newest is None else await api.get(f"/versions/{newest}/checks"))
    imports = await _answer(api.get("/imports"))
    if imports is not None:
        imports_card(imports["imports"])


@page("/letters", title="Dead letters", icon="markunread_mailbox", key="l", order=60)
async def dead_letters(api: ApiClient) -> None:
    """Draw the page of dead letters."""
    if await _answer(api.get("/dead-letters", limit=1)) is not None:
        await LettersTable(api).build()


async def _answer(call: Awaitable[Any]) -> Any | None:
    """Return the answer, or say what the service lacks and return `None`."""
    try:
        return await call
    except ApiProblem as problem:
        if problem.status not in {404, 503}:
            raise
        empty(f"This cannot be read: {problem}", ADVICE, "cloud_off")
        return None
