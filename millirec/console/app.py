"""The console as an ASGI application: NiceGUI's pages behind the access control."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import httpx
import structlog
from fastapi import FastAPI, Request
from nicegui import background_tasks, ui

from millirec.console import pages
from millirec.console.login.access import AccessControl, create_entrance
from millirec.console.login.attempts import Attempts
from millirec.console.login.login import Login
from millirec.console.login.session import COOKIE, Sessions
from millirec.console.service.client import ApiClient, ApiDown, Reachability, SessionEnded
from millirec.console.service.monitor import Monitor
from millirec.console.widgets.layout import THEME_COOKIE, Visit, frame
from millirec.console.widgets.notices import Hand, report, trouble
from millirec.console.widgets.page_registry import PAGES, Page
from millirec.console_settings import ConsoleSettings

log = structlog.get_logger()


def create_app(settings: ConsoleSettings, version: str, state: Mapping[str, object]) -> AccessControl:
    """Build the console's application, once per process, since NiceGUI keeps its pages in the module.

    `state` is the server's, for as long as it runs.
    """
    if settings.oidc.issuer is not None and settings.api_key is None:
        log.warning("people who come by OIDC act without a key: set console.api_key if the service has keys")
    http, strangers = (_http(settings, version, connections) for connections in (50, 8))
    reachability = Reachability()
    sessions = Sessions(settings.session_minutes * 60, settings.max_sessions)
    entrance = create_entrance(Login(settings, sessions, Attempts(), strangers, reachability))
    monitor = Monitor(http, reachability, settings.metrics_urls, settings.scrape_interval)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        """Run the monitor while the application runs."""
        async with http, strangers:
            looking = asyncio.create_task(monitor.run())
            yield {**state, "monitor": monitor}
            looking.cancel()

    app = FastAPI(title="millirec console", lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    pages.load()
    for page in PAGES:
        ui.page(page.path, title=f"{page.title} · millirec")(_shown(page, http, reachability, sessions))
    ui.run_with(app, title="millirec console", show_welcome_message=False, dark=None)
    return AccessControl(app, entrance, sessions, settings.host, settings.origins)


def _http(settings: ConsoleSettings, version: str, connections: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=settings.api_url,
        timeout=settings.timeout,
        headers={"User-Agent": f"millirec-console/{version}"},
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=min(connections, 10)),
    )


def _shown(
    page: Page, http: httpx.AsyncClient, reachability: Reachability, sessions: Sessions
) -> Callable[[Request], Awaitable[None]]:
    async def show(request: Request) -> None:
        """Draw a page for the person who is logged in."""
        cookie = request.cookies.get(COOKIE)
        session = sessions.find(cookie)
        if session is None:
            ui.navigate.to("/login")
            return
        api = ApiClient(
            http,
            reachability,
            session.key,
            lambda: sessions.find(cookie) == session,
            session.person,
            session.by_oidc,
        )

        visit = Visit(
            page=page,
            person=session.person,
            theme=request.cookies.get(THEME_COOKIE, "auto"),
            keyless=session.key is None and not session.by_oidc,
            reachability=reachability,
            still_in=api.open,
            log_out=lambda: sessions.close(cookie),
            look_again=request.state.monitor.look,
        )
        content = frame(visit)
        client = ui.context.client
        client.on_exception(report)
        with content:
            ui.spinner(size="lg").classes("self-center my-10")
        await client.connected()
        await _fill(content, page, api)

    return show


async def _fill(content: ui.column, page: Page, api: ApiClient) -> None:
    async def redraw() -> None:
        """Draw the page's content once more."""
        await _fill(content, page, api)

    def redraw_when_up(hand: Hand) -> None:
        """Draw the page again when the service answers and the pointer is not over the card."""
        if not api.reachability.down and not hand.near:
            # Not in the timer's own task, which ends with the timer when the page is cleared.
            background_tasks.create(redraw(), name=f"show {page.path} again")

    content.clear()
    with content:
        try:
            await page.build(api)
        except SessionEnded:
            ui.navigate.to("/login")
        except Exception as error:  # noqa: BLE001 - shown to the person, and logged where nobody expected it
            content.clear()
            card = trouble(error, redraw)
            if isinstance(error, ApiDown):
                ui.timer(1.0, partial(redraw_when_up, Hand(card)))
