"""Notices of a page where something is wrong or missing: never a traceback, always what to do next."""

from collections.abc import Awaitable, Callable

import structlog
from nicegui import ui

from millirec.console.service.client import ApiDown, ApiProblem, SessionEnded
from recsys.observability.text import printable

log = structlog.get_logger()


def banner(text: str, *, kind: str = "info", icon: str = "info") -> ui.row:
    """Draw a line across the page; `kind`: info, warn or bad. Returns its row, for more elements."""
    with ui.row().classes(f"m-banner m-{kind} no-wrap").props('role="status"') as row:
        ui.icon(icon).classes("text-lg")
        ui.label(printable(text)).classes("flex-grow")
    return row


def empty(title: str, advice: str, icon: str = "inbox") -> None:
    """Draw a notice in place of what does not exist yet."""
    with ui.column().classes("w-full items-center py-10 gap-1 text-center"):
        ui.icon(icon).classes("text-4xl m-dim")
        ui.label(title).classes("font-medium")
        ui.label(advice).classes("m-dim max-w-prose")


def trouble(error: Exception, retry: Callable[[], Awaitable[None]]) -> ui.card:
    """Draw an error in place of a page that could not be shown, with a button to retry. Returns the card."""
    title, advice = words_of(error)
    with ui.card().classes("w-full items-center text-center py-10").props('role="alert"') as card:
        ui.icon("cloud_off" if isinstance(error, ApiDown) else "error_outline").classes("text-4xl m-dim")
        ui.label(title).classes("text-lg font-medium")
        ui.label(advice).classes("m-dim max-w-prose")
        ui.button("Try again", icon="refresh", on_click=retry).props("outline no-caps")
    return card


def report(error: Exception) -> None:
    """Show an error over the page: for what failed after a click."""
    if isinstance(error, SessionEnded):
        ui.navigate.to("/login")
        return
    title, advice = words_of(error)
    ui.notify(f"{title}. {advice}", type="negative", multi_line=True, close_button="Close", timeout=10_000)


def words_of(error: Exception) -> tuple[str, str]:
    """Return what happened and what to do; unexpected errors are logged whole, and shown as a bug."""
    if isinstance(error, ApiDown):
        return "The service does not answer", f"This console reached for it in vain: {error}. It goes on trying."
    if isinstance(error, ApiProblem):
        if error.status == 401:
            return "The service does not take this key any more", "Log out, and in again with one that it knows."
        return error.title, error.detail or f"The service answered {error.status}."
    log.error("a page failed", exc_info=error)
    return "This failed, and it is a bug", f"The log of the console has the details ({type(error).__name__})."


class Hand:
    """Tracks whether a pointer is over an element, which timers do not redraw then."""

    def __init__(self, element: ui.element) -> None:
        self.near = False
        element.on("pointerenter", self._came, args=[])
        element.on("pointerleave", self._went, args=[])

    def _came(self) -> None:
        self.near = True

    def _went(self) -> None:
        self.near = False
