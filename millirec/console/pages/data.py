"""Data quality: what imports made of their rows, and what the gate says of the newest data. Dead letters."""

from nicegui import ui

from millirec.console.panels.dead_letters import ADVICE, UNREADABLE, LettersTable
from millirec.console.panels.quality import checks_card, imports_card
from millirec.console.service.client import ApiClient, ApiProblem
from millirec.console.widgets.notices import empty
from millirec.console.widgets.page_registry import page


@page("/data", title="Data quality", icon="fact_check", key="d", order=50)
async def data_quality(api: ApiClient) -> None:
    """Draw the page on data quality."""
    versions = (await api.get("/versions"))["versions"]
    newest = versions[-1]["version"] if versions else None
    with ui.element("div").classes("m-grid"):
        checks_card(None if newest is None else await api.get(f"/versions/{newest}/checks"))
    try:
        imports = await api.get("/imports")
    except ApiProblem as problem:
        if problem.status not in UNREADABLE:
            raise
        empty(f"Imports cannot be read: {problem}", ADVICE, "cloud_off")
    else:
        imports_card(imports["imports"])


@page("/letters", title="Dead letters", icon="markunread_mailbox", key="l", order=60)
async def dead_letters(api: ApiClient) -> None:
    """Draw the page of dead letters."""
    await LettersTable(api).build()
