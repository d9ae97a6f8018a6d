"""All that strangers reach: the login, and whether the console is alive. Nothing of NiceGUI's makes an answer here."""

from pathlib import Path

import nicegui
from fastapi import FastAPI
from starlette.responses import FileResponse

from millirec.console import login, oidc

ICON = Path(nicegui.__file__).parent / "static" / "favicon.ico"


def create_entrance(entering: login.Login) -> FastAPI:
    app = FastAPI(title="millirec console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(login.routes(entering))
    app.include_router(oidc.routes(entering))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/favicon.ico")
    async def icon() -> FileResponse:
        return FileResponse(ICON)

    return app
