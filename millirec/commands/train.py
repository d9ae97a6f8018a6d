"""millirec train: log -> version -> gate -> registry -> live."""

import asyncio
import getpass
import signal
import threading
from typing import Annotated

import structlog
import typer

from millirec.replicas import nudge
from millirec.settings import Settings, load_settings
from millirec.terminal import console, progress_bar
from recsys.errors import RecsysError
from recsys.feature_store import VERSIONS_CHANNEL
from recsys.index_registry import open_index_registry

log = structlog.get_logger()


def register(app: typer.Typer) -> None:
    @app.command("train")
    def train(
        promote: Annotated[bool, typer.Option(help="Put the version in service when it passes the gate.")] = True,
        reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit history.")] = "training",
        force: Annotated[bool, typer.Option(help="Publish although the gate refuses; needs --reason.")] = False,
        log_version: Annotated[int | None, typer.Option(help="Learn from the log as of this table version.")] = None,
        every: Annotated[float | None, typer.Option(min=0.01, help="Train again every so many hours.")] = None,
    ) -> None:
        """Learn a new index version from the interaction log, evaluate it, and publish it if it is good enough.

        The evaluation holds out the last weeks, asks the same recommender that serves, and compares with popular
        items and with the live version. Writes a report with plots.
        """
        settings = load_settings()
        if force and reason == "training":
            raise typer.BadParameter("--force needs a --reason of its own")
        if every is None:
            train_version(settings, reason=reason, promote=promote, force=force, log_version=log_version)
        else:
            _train_on_schedule(settings, every * 3600.0)


def train_version(
    settings: Settings, *, reason: str, promote: bool = True, force: bool = False, log_version: int | None = None
) -> str:
    """Train with a progress bar, print the report, publish, promote; the version's id. Raises `GateRefused`."""
    from recsys.index_registry import aliases
    from recsys.interaction_log import open_interaction_log
    from training.report import render
    from training.run import run

    registry = open_index_registry(settings.registry)
    with progress_bar() as bar:
        task = bar.add_task("training", total=None)
        result = run(
            settings.train,
            open_interaction_log(settings.log),
            registry,
            actor=getpass.getuser(),
            reason=reason,
            force=force,
            log_version=log_version,
            progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
        )
    console.print(render(result))
    if promote:
        move = aliases.promote(registry, result.manifest.version, actor=getpass.getuser(), reason=reason)
        asyncio.run(nudge(settings, VERSIONS_CHANNEL, move.version))
        console.print(f"live -> {move.version}", highlight=False)
    return result.manifest.version


def _train_on_schedule(settings: Settings, seconds: float) -> None:
    """Train now and then until SIGTERM or SIGINT; a run that fails is logged and never touches what is live."""
    ended = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: ended.set())
    while not ended.wait(seconds):
        try:
            version = train_version(settings, reason="scheduled training")
        except RecsysError as error:
            log.error("scheduled training did not produce a version", error=str(error))
        else:
            log.info("scheduled training promoted a version", version=version)
