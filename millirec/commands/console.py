"""millirec console: the web console."""

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

from millirec.settings import load_settings

MAX_MESSAGE = 2**20
"""Bytes that a page may send over its web socket at once."""


def register(app: typer.Typer) -> None:
    """Add the `console` command to `app`."""

    @app.command("console")
    def console(
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
        api: Annotated[str | None, typer.Option(help="URL of the service it shows and changes.")] = None,
    ) -> None:
        """Show the service to operators and product people, in the browser. Log in with an admin key or by OIDC."""
        import uvicorn

        from app.server.connections import Connections
        from app.server.protocol import STATE
        from app.server.sockets import SocketProtocol, limits
        from millirec import __version__
        from millirec.console.app import create_app

        # As settings, so that they are checked like those.
        options = {"HOST": host, "PORT": port, "API_URL": api}
        os.environ.update({f"MILLIREC_CONSOLE__{name}": str(v) for name, v in options.items() if v is not None})
        settings = load_settings().console
        # uvicorn raises the signal again once it has ended; this makes it an exit that cleans up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        config = uvicorn.Config(
            create_app(settings, __version__, {STATE: Connections(limits())}),
            host=settings.host,
            port=settings.port,
            http=SocketProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            # X-Forwarded-For is ignored by default, even from loopback.
            proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,
            ws_max_size=MAX_MESSAGE,
            timeout_graceful_shutdown=2,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
