"""The frame of every page: header, navigation, keys, theme, the banner of a service that is down."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui
from nicegui.events import KeyEventArguments

from millirec.console.service.client import Reachability
from millirec.console.widgets.notices import Hand, banner
from millirec.console.widgets.page_registry import PAGES, Page
from millirec.console.widgets.theme import ACCENT, CSS
from recsys.observability.text import printable

THEMES: dict[str, tuple[bool | None, str, str]] = {
    "auto": (None, "brightness_auto", "as the system says"),
    "light": (False, "light_mode", "light"),
    "dark": (True, "dark_mode", "dark"),
}
THEME_COOKIE = "millirec_theme"
TYPED_INTO = ["input", "select", "textarea"]
"""Keys that are typed there are text, not shortcuts."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of a person to a page."""

    page: Page
    person: str
    theme: str
    keyless: bool
    reachability: Reachability
    still_in: Callable[[], bool]
    log_out: Callable[[], None]
    look_again: Callable[[], Awaitable[None]]


def frame(visit: Visit) -> ui.column:
    """Draw everything around a page. Returns the column for the page itself."""
    ui.colors(primary=ACCENT)
    ui.add_css(CSS)
    theme = Theme(visit.theme)
    # Not value=None: NiceGUI would ask every browser for the state, and give up on slow ones with an error.
    drawer = ui.left_drawer(value=False, bordered=True).props("width=230 breakpoint=1023 show-if-above")
    with drawer.classes("px-0 py-4"):
        _navigation(visit.page)
    keys = _keys_dialog()
    with ui.header().classes("m-header items-center no-wrap gap-2 py-2 px-3"):
        ui.link("Skip to the page", "#page").classes("m-skip")
        _icon_button("menu", "Navigation", drawer.toggle).classes("lg:hidden")
        ui.label("millirec").classes("text-lg font-medium")
        ui.label("console").classes("m-dim text-lg max-sm:hidden")
        ui.space()
        ui.label(printable(visit.person)).classes("m-dim text-sm max-sm:hidden")
        theme.button()
        _icon_button("keyboard", "Keys (?)", keys.open).classes("max-sm:hidden")

        def leave() -> None:
            """Log out and go to the login."""
            visit.log_out()
            ui.navigate.to("/login")

        _icon_button("logout", "Log out", leave)
    _listen(keys, theme)
    with ui.column().classes("m-page"):
        _down_banner(visit)
        if visit.keyless:
            banner(
                "This service has no keys configured: whoever reaches it may change it. Make one: millirec key.",
                kind="warn",
                icon="lock_open",
            )
        ui.html(f"<h1 id='page'>{visit.page.title}</h1>", sanitize=False)
        return ui.column().classes("w-full gap-5")


class Theme:
    """Auto, light or dark; stored in a cookie of the browser."""

    def __init__(self, chosen: str) -> None:
        self._chosen = chosen if chosen in THEMES else "auto"
        self._dark = ui.dark_mode(THEMES[self._chosen][0])

    def button(self) -> None:
        """Draw the button that changes the theme."""
        self._button = _icon_button("", "", self.turn)
        self._show()

    def turn(self) -> None:
        """Change to the next theme and store it."""
        names = list(THEMES)
        self._chosen = names[(names.index(self._chosen) + 1) % len(names)]
        self._dark.value = THEMES[self._chosen][0]
        self._show()
        ui.run_javascript(f'document.cookie="{THEME_COOKIE}={self._chosen};path=/;max-age=31536000;samesite=strict"')

    def _show(self) -> None:
        _, icon, words = THEMES[self._chosen]
        self._button.props(f'icon={icon} aria-label="Theme: {words} (t)" title="Theme: {words} (t)"')


def _navigation(current: Page) -> None:
    with ui.element("nav").props('aria-label="Pages"').classes("w-full"):
        for page in PAGES:
            link = ui.link(target=page.path).classes("m-nav row items-center no-wrap gap-3")
            if page is current:
                link.props("aria-current=page")
            with link:
                ui.icon(page.icon).classes("text-xl")
                ui.label(page.title).classes("flex-grow")
                ui.label(page.key).classes("m-key max-lg:hidden")


def _icon_button(icon: str, words: str, action: Callable[[], object]) -> ui.button:
    button = ui.button(on_click=action).props("flat round dense color=none")
    return button.props(f'icon={icon} aria-label="{words}" title="{words}"') if icon else button


def _keys_dialog() -> ui.dialog:
    shown = [(page.key, page.title) for page in PAGES] + [("t", "Theme: auto, light, dark"), ("?", "These keys")]
    with ui.dialog() as dialog, ui.card().classes("min-w-[300px]"):
        ui.label("Keys").classes("text-lg font-medium")
        for key, words in shown:
            with ui.row().classes("w-full items-center justify-between no-wrap"):
                ui.label(words)
                ui.label(key).classes("m-key")
        ui.label("Tab and Enter reach everything else; Escape closes.").classes("m-dim text-sm")
    return dialog


def _listen(keys: ui.dialog, theme: Theme) -> None:
    paths = {page.key: page.path for page in PAGES}

    def pressed(event: KeyEventArguments) -> None:
        """Do what a key stands for."""
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta:
            return
        key = event.key.name
        if key == "?":
            keys.open()
        elif key == "t":
            theme.turn()
        elif key in paths:
            ui.navigate.to(paths[key])

    ui.keyboard(pressed, repeating=False, ignore=TYPED_INTO)  # type: ignore[arg-type]


def _down_banner(visit: Visit) -> None:
    with banner("", kind="bad", icon="cloud_off") as row:
        row.props('role="alert"').classes("m-over")
        ui.button("Try now", on_click=visit.look_again).props("flat dense no-caps")
    words = next(element for element in row if isinstance(element, ui.label))

    hand = Hand(row)

    def look() -> None:
        """Show the banner while the service is down, and go to the login when the session is over."""
        if not visit.still_in():
            ui.navigate.to("/login")
        down = visit.reachability.down
        row.set_visibility(down or hand.near)
        words.text = (
            f"The service does not answer ({visit.reachability.reason}). What you see is the last that is known."
            if down
            else "The service answers again."
        )

    look()
    ui.timer(1.0, look)
