"""The `millirec` command: every subcommand is one file in `millirec/commands`."""

import errno
import os
import signal
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from millirec import __version__
from millirec.commands import (
    config,
    console,
    consume,
    dead_letters,
    demo,
    doctor,
    import_,
    key,
    log,
    placements,
    probe,
    rebuild_features,
    rollouts,
    schemas,
    seed,
    serve,
    train,
    up,
    versions,
)
from millirec.settings import load_settings, use_config
from millirec.standalone.api_keys import key_settings
from millirec.standalone.private_files import set_umask
from millirec.terminal import PrintableGroup, errors, explain, refuse
from recsys.errors import InvalidInput, RecsysError
from recsys.observability.telemetry import configure_logging
from recsys.observability.text import masked

MAKERS = {"demo", "up"}
"""Commands that make the folder of `--data`, and take the option on either side."""

app = typer.Typer(
    name="millirec",
    cls=PrintableGroup,
    help="Recommendations in milliseconds: import, train, serve, learn from the next event, roll back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Start with: millirec demo",
)
for command in (
    demo,
    up,
    serve,
    consume,
    import_,
    train,
    seed,
    rebuild_features,
    doctor,
    console,
    config,
    key,
    schemas,
):
    command.register(app)
app.add_typer(versions.app, name="versions")
app.add_typer(rollouts.canary, name="canary")
app.add_typer(rollouts.shadow, name="shadow")
app.add_typer(placements.app, name="placements")
app.add_typer(probe.app, name="probe")
app.add_typer(log.app, name="log")
app.add_typer(dead_letters.app, name="dead-letters")


class LogLevel(StrEnum):
    """The least severe log lines to write."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _print_version(is_set: bool) -> None:
    if is_set:
        sys.stdout.write(f"millirec {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="A TOML file with settings; MILLIREC_CONFIG does the same.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Use the standalone deployment in this folder (as demo and up make it).")
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is logged, to standard error.")] = LogLevel.INFO,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,  # noqa: ARG001
) -> None:
    """Settings come from environment variables MILLIREC_..., then a TOML file, then defaults."""
    configure_logging(log_level)
    if config_file is not None:
        use_config(config_file)
    context.obj = data
    if data is not None and context.invoked_subcommand not in MAKERS:
        use_deployment(data)


def use_deployment(data: Path) -> None:
    """Make this process use the deployment in `data`. Raises `InvalidInput` where there is none."""
    from millirec.standalone import deployment

    if not data.is_dir():
        raise InvalidInput("--data", f"{data} is no folder of a deployment; `millirec --data {data} up` makes one")
    os.environ.update(deployment.environment(data))
    if not load_settings().serve.keys:
        os.environ.update(key_settings(data))


def main() -> None:
    """Run the command; expected errors become one line and an exit code, not a traceback."""
    # So that SIGTERM, like Ctrl-C, unwinds: an embedded store must not outlive its command.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        set_umask()
        app()
    except RecsysError as error:
        sys.exit(explain(error))
    except FileNotFoundError as error:
        refuse(masked(str(error)))
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - the interpreter would print what a message holds as it is
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            refuse(f"the disk is full: {error}")
        else:
            errors.print(Text(masked(traceback.format_exc())), highlight=False, soft_wrap=True)
        sys.exit(1)
