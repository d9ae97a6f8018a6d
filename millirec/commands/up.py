"""millirec up: a small real deployment on one machine."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from millirec.terminal import console

Data = Annotated[Path, typer.Option(help="The folder that keeps everything.")]
Port = Annotated[int, typer.Option(help="Port of the HTTP service.")]
ConsolePort = Annotated[int, typer.Option(help="Port of the web console.")]
NoConsole = Annotated[bool, typer.Option("--no-console", help="Leave the web console out.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes of the HTTP service.")]


def register(app: typer.Typer) -> None:
    @app.command("up")
    def up(
        data: Data = Path("var/millirec"),
        port: Port = 8000,
        workers: Workers = 1,
        console_port: ConsolePort = 8080,
        no_console: NoConsole = False,
        retrain_hours: Annotated[float, typer.Option(min=0, help="Hours between trainings; 0: never.")] = 24.0,
    ) -> None:
        """Run everything on this machine: embedded store, consumers, service, scheduled retraining and tidying.

        Import your own data with `millirec --data DIR import`, or post events; then train.
        """
        from millirec import standalone

        standalone.check_port(port)
        shown = console_choice(console_port, left_out=no_console)
        extra = {"tidy": ["log", "tidy", "--every", "24"]}
        if retrain_hours:
            extra["train"] = ["train", "--every", str(retrain_hours)]
        with (
            standalone.embedded_store(data),
            standalone.services(data, port=port, workers=workers, extra=extra, console=shown) as run,
        ):
            console.print(f"millirec is up on http://127.0.0.1:{port}/docs, keeping everything in {data}.")
            if shown is not None:
                console.print(f"The console: http://127.0.0.1:{shown}")
            console.print("Ctrl-C stops it.")
            wait_for_end(run.tend)


def console_choice(port: int, *, left_out: bool) -> int | None:
    """The port of the web console, if there is to be one. Raises `Conflict` when it is taken."""
    from millirec import standalone

    if left_out:
        return None
    standalone.check_port(port, "--console-port, or --no-console")
    return port


def wait_for_end(tend: Callable[[], None], interval: float = 0.5) -> None:
    """Call `tend` until SIGINT or SIGTERM."""
    ended = threading.Event()
    before = {one: signal.signal(one, lambda *_: ended.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not ended.wait(interval):
            tend()
    finally:
        for one, previous in before.items():
            signal.signal(one, previous)
    console.print("stopping: finishing what is in hand")
