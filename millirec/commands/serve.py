"""millirec serve: the HTTP service."""

import os
import signal
import sys
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from millirec.settings import load_settings
from recsys.scratch import scratch_folder

MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"


def register(app: typer.Typer) -> None:
    @app.command("serve")
    def serve(
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
        workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the port.")] = None,
    ) -> None:
        """Answer HTTP requests. OpenAPI documentation is at /docs."""
        import uvicorn

        from millirec.draining import Workers
        from millirec.edge.limits import raise_open_files
        from millirec.edge.protocol import Protocol

        settings = load_settings().serve
        count = workers or settings.workers
        raise_open_files(settings)
        # uvicorn raises the signal again once it has ended; this makes it an exit that cleans up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with ExitStack() as stack:
            if count > 1 and MULTIPROC not in os.environ:
                os.environ[MULTIPROC] = str(stack.enter_context(scratch_folder("metrics")))
            config = uvicorn.Config(
                "millirec.service:create",
                factory=True,
                host=host or settings.host,
                port=settings.port if port is None else port,
                workers=count,
                loop="uvloop",
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.shutdown_timeout),
            )
            if count > 1:
                Workers(config).run()
            else:
                with suppress(KeyboardInterrupt):
                    uvicorn.Server(config).run()
