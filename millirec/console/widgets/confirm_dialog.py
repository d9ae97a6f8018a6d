"""Dialogs that ask before something is done."""

from nicegui import ui


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
