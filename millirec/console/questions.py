"""Dialogs that ask before something is done."""

from nicegui import ui


async def confirmed(question: str, action: str) -> bool:
    """Whether the person said yes; Escape and Enter say no."""
    with ui.dialog() as dialog, ui.card():
        ui.label(question)
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("no-caps flat autofocus")
            ui.button(action, on_click=lambda: dialog.submit(True)).props("no-caps unelevated")
    answer = await dialog
    dialog.delete()
    return bool(answer)


async def reason(question: str, action: str) -> str:
    """Why, in the person's words; empty where they think better of it."""
    with ui.dialog() as dialog, ui.card():
        ui.label(question)
        why = ui.input("Why").props("autofocus outlined dense maxlength=500").classes("w-full")
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")
            act = ui.button(action, on_click=lambda: dialog.submit(why.value.strip())).props("no-caps unelevated")
            act.bind_enabled_from(why, "value", lambda value: bool(value.strip()))
    answer = await dialog
    dialog.delete()
    return str(answer or "")
