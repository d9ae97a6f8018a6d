"""millirec serve: the HTTP service."""

import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from app.settings import ServeSettings
from millirec.settings import load_settings
from recsys.errors import InvalidInput
from recsys.scratch import scratch_folder

MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"
WORKER_HEALTH_CHECK = 60
"""Seconds. A worker on a busy machine takes longer to import than the 5 that uvicorn gives it before it is killed."""


def register(app: typer.Typer) -> None:
    """Add the `serve` command to `app`."""

    @app.command("serve")
    def serve(
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
        workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the port.")] = None,
        allow_anonymous: Annotated[
            bool, typer.Option("--allow-anonymous", help="Without keys, listen on other addresses than loopback too.")
        ] = False,
    ) -> None:
        """Answer HTTP requests. OpenAPI documentation is at /docs."""
        import uvicorn

        from app.server.draining import WorkerConfig, Workers
        from app.server.limits import raise_open_files
        from app.server.protocol import Protocol
        from app.spool.folder import check_folder

        # The workers read their settings themselves.
        if host is not None:
            os.environ["MILLIREC_SERVE__HOST"] = host
        if allow_anonymous:
            os.environ["MILLIREC_SERVE__ALLOW_ANONYMOUS"] = "true"
        settings = load_settings().serve
        check_address(settings)
        if settings.spool is not None:
            check_folder(settings.spool)
        count = workers or settings.workers
        raise_open_files(settings)
        # uvicorn raises the signal again once it has ended; this makes it an exit that cleans up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with ExitStack() as stack:
            if count > 1 and MULTIPROC not in os.environ:
                os.environ[MULTIPROC] = str(stack.enter_context(scratch_folder("metrics")))
            config = (WorkerConfig if count > 1 else uvicorn.Config)(
                "millirec.service:create",
                factory=True,
                host=settings.host,
                port=settings.port if port is None else port,
                workers=count,
                loop="uvloop",
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.shutdown_timeout),
                timeout_worker_healthcheck=WORKER_HEALTH_CHECK,
            )
            if isinstance(config, WorkerConfig):
                Workers(config).run()
            else:
                with suppress(KeyboardInterrupt):
                    uvicorn.Server(config).run()


def check_address(serve: ServeSettings) -> None:
    """Raises `InvalidInput` where nothing can listen, or where all who reach the port could do everything."""
    from app.http.origins import is_loopback

    try:
        socket.getaddrinfo(serve.host, serve.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidInput("serve.host", f"{serve.host!r} is no address to listen on: {error}") from None
    if not (serve.keys or serve.allow_anonymous or is_loopback(serve.host)):
        raise InvalidInput(
            "serve.host",
            f"{serve.host!r} is reached from other machines, and there are no keys: whoever reaches the port could do "
            "everything. Make a key with `millirec key NAME --scope admin` and configure it (MILLIREC_SERVE__KEYS), "
            "listen on 127.0.0.1, or say --allow-anonymous (MILLIREC_SERVE__ALLOW_ANONYMOUS=true)",
        )
