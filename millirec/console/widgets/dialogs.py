"""Dialogs before a change: a question, or what it will do and a reason, which is recorded."""

from nicegui import ui

from millirec.console.service.client import MAX_REASON, ApiClient

SHORTEST = 3
"""Characters of a reason."""


async def ask_confirmation(question: str, action: str) -> bool:
    """Ask a question and return whether the person said yes; Escape and Enter say no."""
    with ui.dialog() as dialog, ui.card():
        ui.label(question)
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("no-caps flat autofocus")
            ui.button(action, on_click=lambda: dialog.submit(True)).props("no-caps unelevated")
    answer = await dialog
    dialog.delete()
    return bool(answer)


async def ask_reason(api: ApiClient, title: str, text: str, action: str, *, danger: bool = False) -> str | None:
    """Ask for a reason and return it, None when the person cancels. `action` stands on the button."""
    # Not beside the button, which may be redrawn while the dialog is open.
    with ui.context.client.content, ui.dialog() as dialog, ui.card().classes("w-[480px] max-w-full"):
        ui.label(title).classes("text-lg font-medium")
        ui.label(text).classes("m-dim")
        reason = ui.textarea("Reason, kept in the history").props(f"outlined autofocus autogrow maxlength={MAX_REASON}")
        reason.classes("w-full")
        with ui.row().classes("w-full justify-end gap-2"):
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
            go = ui.button(action, on_click=lambda: dialog.submit(reason.value.strip())).props("unelevated no-caps")
            go.bind_enabled_from(reason, "value", lambda value: len((value or "").strip()) >= SHORTEST)
            if danger:
                go.props("color=negative")
    answer = await dialog
    dialog.delete()
    return api.signed(str(answer)) if answer else None
