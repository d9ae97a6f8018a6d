"""A promote or rollback in progress: requested, in service on one replica, in service on every replica."""

import asyncio
from time import monotonic
from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient, ApiDown, ApiProblem
from millirec.console.service.monitor import Monitor
from millirec.console.widgets.notices import words_of

LOADING = 60.0
"""Seconds that a replica gets to load a version that is not in its memory."""
SPREADING = 20.0


async def move(api: ApiClient, monitor: Monitor, path: str, reason: str, title: str) -> None:
    """POST `path` and show the progress. Never raises: errors are shown in the dialog."""
    with (
        ui.context.client.content,
        ui.dialog().props("persistent") as dialog,
        ui.card().classes("w-[480px] max-w-full"),
    ):
        ui.label(title).classes("text-lg font-medium")
        progress = ui.linear_progress(show_value=False).props("indeterminate")
        steps = ui.column().classes("w-full gap-1")
        close = ui.button("Close", on_click=dialog.close).props("flat no-caps").classes("self-end")
        close.disable()
    dialog.open()
    began = monotonic()
    try:
        answer: dict[str, Any] = await api.post(path, {"reason": reason}, timeout=LOADING)
        with steps:
            _done(f"In service on the replica that was asked, after {1000 * (monotonic() - began):,.0f} ms")
        spread = await _spread(monitor, answer["version"])
        with steps:
            if spread is None:
                _done("The metrics show no other replica", icon="info")
            elif spread:
                _done("Every replica that is heard answers with it")
            else:
                _done("Some replicas still answer with another version; they look again every second", icon="warning")
    except (ApiDown, ApiProblem) as error:
        summary, advice = words_of(error)
        with steps:
            _done(f"{summary}. {advice}", icon="error")
    progress.set_visibility(False)
    close.enable()
    await dialog
    dialog.delete()


async def _spread(monitor: Monitor, version: str) -> bool | None:
    """Return whether only `version` is reported soon; None when no replica reports."""
    deadline = monotonic() + SPREADING
    while monotonic() < deadline:
        await monitor.look()
        heard = monitor.samples[-1].versions
        if not heard:
            return None
        if set(heard) == {version}:
            return True
        await asyncio.sleep(0.5)
    return False


def _done(text: str, icon: str = "check_circle") -> None:
    with ui.row().classes("items-center gap-2 no-wrap"):
        ui.icon(icon).classes("text-lg")
        ui.label(text)
