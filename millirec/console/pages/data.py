"""Data quality: what imports made of their rows, and what the gate says of the newest data. Dead letters."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING

from nicegui import ui

from millirec.console.service.client import ApiClient, may_administer
from millirec.console.widgets.notices import empty
from millirec.console.widgets.page_registry import page
from millirec.settings import load_settings
from recsys.errors import RecsysError

if TYPE_CHECKING:
    from millirec.console.service.admin_store import AdminStore


@page("/data", title="Data quality", icon="fact_check", key="d", order=50)
async def data_quality(api: ApiClient) -> None:
    """Draw the page on data quality."""
    await _with_admin_store(api, _quality)


@page("/letters", title="Dead letters", icon="markunread_mailbox", key="l", order=60)
async def dead_letters(api: ApiClient) -> None:
    """Draw the page of dead letters."""

    async def table(admin_store: "AdminStore") -> None:
        """Draw the table, or a notice where there is no log."""
        if (path := admin_store.lacks_log()) is not None:
            advice = "The console looks at log.path; it is made when the first messages are consumed."
            empty(f"There is no interaction log at {path}", advice, "folder_off")
            return
        from millirec.console.panels.dead_letters import LettersTable

        await LettersTable(admin_store, api).build()

    await _with_admin_store(api, table)


async def _quality(admin_store: "AdminStore") -> None:
    from millirec.console.panels.quality import checks_card, imports_card

    with ui.element("div").classes("m-grid"):
        checks_card(await admin_store.newest_checks())
    imports_card(await admin_store.imports())


async def _with_admin_store(api: ApiClient, show: "Callable[[AdminStore], Awaitable[None]]") -> None:
    """Draw a page that reads the files of the log, or say what is missing to read them."""
    await may_administer(api)
    try:
        await show(_admin_store())
    except ModuleNotFoundError as error:
        empty(f"This console is installed without {error.name}", "Install millirec[ingest] beside it.", "extension_off")
    except RecsysError as error:
        advice = "The console needs the settings and the reach of a consumer: log, registry and ingest.rejected."
        empty(f"This cannot be read: {error}", advice, "cloud_off")


@cache
def _admin_store() -> "AdminStore":
    from millirec.console.service.admin_store import AdminStore

    return AdminStore(load_settings())
