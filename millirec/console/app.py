"""The console as an ASGI application: NiceGUI's pages behind the gate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import structlog
from fastapi import FastAPI, Request
from nicegui import background_tasks, ui

from millirec.console import login, oidc, pages
from millirec.console.client import ApiClient, ApiDown, Reachability, SessionEnded
from millirec.console.gate import Gate
from millirec.console.layout import THEME_COOKIE, Visit, frame
from millirec.console.monitor import Monitor
from millirec.console.notices import report, trouble
from millirec.console.registry import PAGES, Page
from millirec.console.session import COOKIE, Attempts, Sessions
from millirec.console_settings import ConsoleSettings

log = structlog.get_logger()


def create_app(settings: ConsoleSettings, version: str) -> FastAPI:
    """Once per process: NiceGUI keeps its pages in the module."""
    http = httpx.AsyncClient(
        base_url=settings.api_url,
        timeout=settings.timeout,
        headers={"User-Agent": f"millirec-console/{version}"},
        limits=httpx.Limits(max_connections=50, max_keepalive_connections=10),
    )
    reachability = Reachability()
    monitor = Monitor(http, reachability, settings.metrics_urls, settings.scrape_interval)
    sessions = Sessions(settings.session_minutes * 60, settings.max_sessions)
    entrance = login.Login(settings, sessions, Attempts(), http, reachability)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Monitor]]:
        async with http:
            looking = asyncio.create_task(monitor.run())
            yield {"monitor": monitor}
            looking.cancel()

    if settings.oidc.issuer is not None and settings.api_key is None:
        log.warning("people who come by OIDC act without a key: set console.api_key if the service has keys")
    app = FastAPI(title="millirec console", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, sessions=sessions, host=settings.host, origins=settings.origins)
    app.include_router(login.routes(entrance))
    app.include_router(oidc.routes(entrance))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    pages.load()
    for page in PAGES:
        ui.page(page.path, title=f"{page.title} · millirec")(_shown(page, entrance))
    ui.run_with(app, title="millirec console", show_welcome_message=False, dark=None)
    return app


def _shown(page: Page, entrance: login.Login) -> Callable[[Request], Awaitable[None]]:
    async def show(request: Request) -> None:
        cookie = request.cookies.get(COOKIE)
        session = entrance.sessions.find(cookie)
        if session is None:
            ui.navigate.to("/login")
            return
        api = ApiClient(
            entrance.http,
            entrance.reachability,
            session.key,
            lambda: entrance.sessions.find(cookie) is session,
            session.person,
            session.by_oidc,
        )

        visit = Visit(
            page=page,
            person=session.person,
            theme=request.cookies.get(THEME_COOKIE, "auto"),
            keyless=session.key is None and not session.by_oidc,
            reachability=entrance.reachability,
            still_in=api.open,
            log_out=lambda: entrance.sessions.close(cookie),
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
    async def again() -> None:
        await _fill(content, page, api)

    def once_it_answers() -> None:
        if not api.reachability.down:
            # Not in the timer's own task, which ends with the timer when the page is cleared.
            background_tasks.create(again(), name=f"show {page.path} again")

    content.clear()
    with content:
        try:
            await page.build(api)
        except SessionEnded:
            ui.navigate.to("/login")
        except Exception as error:  # noqa: BLE001 - shown to the person, and logged where nobody expected it
            content.clear()
            trouble(error, again)
            if isinstance(error, ApiDown):
                ui.timer(1.0, once_it_answers)
