"""Answers to people who are not logged in: the login and the health check. NiceGUI makes none of them."""

from pathlib import Path

import nicegui
from fastapi import FastAPI
from starlette.responses import FileResponse

from millirec.console.login import login, oidc

ICON = Path(nicegui.__file__).parent / "static" / "favicon.ico"


def create_entrance(entering: login.Login) -> FastAPI:
    """Build the application for people who are not logged in."""
    app = FastAPI(title="millirec console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(login.routes(entering))
    app.include_router(oidc.routes(entering))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the console runs."""
        return {"status": "alive"}

    @app.get("/favicon.ico")
    async def icon() -> FileResponse:
        """Return the icon of the page."""
        return FileResponse(ICON)

    return app
