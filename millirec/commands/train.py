"""millirec train: log -> version -> gate -> registry -> live."""

import asyncio
import os
import platform
from datetime import timedelta
from typing import Annotated

import typer

from millirec.operations import actor_name, notify
from millirec.retraining import retrain
from millirec.settings import Settings, load_settings
from millirec.terminal import console, progress_bar
from recsys.models.alias_move import CANARY, LIVE
from recsys.stores.model_registry import ModelRegistry, aliases
from recsys.stores.model_registry.rollouts import start_canary
from recsys.stores.notifications import VERSIONS_CHANNEL

NO_REASON = "training"
LEASE = "training"


def register(app: typer.Typer) -> None:
    """Add the `train` command to `app`."""

    @app.command("train")
    def train(
        promote: Annotated[
            bool | None,
            typer.Option(help="Put the version in service when it passes the gate; by default, unless --like."),
        ] = None,
        canary: Annotated[
            bool, typer.Option("--canary", help="Let it answer a few users first (millirec canary) instead of all.")
        ] = False,
        reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit history.")] = NO_REASON,
        force: Annotated[bool, typer.Option(help="Publish although the gate refuses; needs --reason.")] = False,
        log_version: Annotated[int | None, typer.Option(help="Learn from the log as of this table version.")] = None,
        like: Annotated[
            str | None,
            typer.Option(
                help="Make this version again: its settings, its log and its catalogue. On the same machine, with the "
                "same packages, the item factors are the same bit for bit; with any number of threads, as BLAS keeps "
                "to one. It says what differs."
            ),
        ] = None,
        schedule: Annotated[
            str | None, typer.Option(help='Train again by a cron expression, in local time: "0 3 * * *".')
        ] = None,
        every: Annotated[float | None, typer.Option(min=0.01, help="Train again every so many hours.")] = None,
        when_events: Annotated[
            int | None, typer.Option(min=1, help="Train again when so many events are newer than the live version.")
        ] = None,
        when_shift: Annotated[
            float | None,
            typer.Option(min=0.0, max=1.0, help="Train again when new events' items or types have shifted so far."),
        ] = None,
        when_drop: Annotated[
            float | None,
            typer.Option(
                min=0.0,
                max=1.0,
                help="Train again when the live version's recall@20 on newer events is surely below what its manifest "
                "promised by this share, such as 0.15.",
            ),
        ] = None,
    ) -> None:
        """Learn a new index version from the interaction log, evaluate it, and publish it if it is good enough.

        The evaluation holds out the last weeks, asks the same recommender that serves, and compares with popular
        items and with the live version. Writes a report with plots. One trainer at a time per registry.

        With --schedule, --every, --when-events, --when-shift or --when-drop it goes on until it is told to stop, and
        prints when the next run is. A run that fails is logged and never touches what is live.
        """
        from training.runs.triggers import Schedule, Triggers

        settings = load_settings()
        if force and reason == NO_REASON:
            raise typer.BadParameter("--force needs a --reason of its own")
        times = Schedule(schedule, timedelta(hours=every) if every else None)
        triggers = Triggers(when_events, when_shift, when_drop)
        if not times and not triggers:
            train_version(
                settings,
                reason=reason,
                promote=like is None if promote is None else promote,
                canary=canary,
                force=force,
                log_version=log_version,
                like=like,
            )
            return
        if like is not None or log_version is not None or force:
            raise typer.BadParameter("--like, --log-version and --force are for a single run")
        retrain(
            settings,
            times,
            triggers,
            lambda cause: train_version(settings, reason=cause, promote=promote is not False, canary=canary),
        )


def train_version(
    settings: Settings,
    *,
    reason: str,
    promote: bool = True,
    canary: bool = False,
    force: bool = False,
    log_version: int | None = None,
    like: str | None = None,
) -> str:
    """Train with a progress bar, print the report, publish and put in service. Returns the version.

    Raises `GateRefused`, and `Conflict` while another trainer holds the lease of this registry.
    """
    from recsys.opening import open_proving_registry
    from recsys.stores.event_log import open_interaction_log
    from recsys.stores.leases import held, open_lease
    from training.reports.report import render
    from training.runs.context import RunRequest
    from training.runs.run import run

    registry = open_proving_registry(settings.registry)
    actor = actor_name()
    lease = open_lease(settings.registry, LEASE, settings.train.lease_seconds)
    # A unique name: two trainers may share a user, and two machines a name.
    holder = f"{actor}@{platform.node()}:{os.getpid()}:{os.urandom(3).hex()}"
    with held(lease, holder, settings.train.lease_seconds / 3.0) as mine, progress_bar() as bar:
        task = bar.add_task("training", total=None)
        result = run(
            settings.train,
            open_interaction_log(settings.log),
            registry,
            RunRequest(
                actor=actor,
                reason=reason,
                force=force,
                log_version=log_version,
                like=None if like is None else registry.manifest(like),
                assert_lease=mine.check,
            ),
            lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
        )
        console.print(render(result))
        if promote:
            mine.check()
            forced = f" (forced past {len(result.reasons)} reasons of the gate)" if result.reasons else ""
            _put_in_service(settings, registry, result.manifest.version, actor, f"{reason}{forced}", canary)
    return result.manifest.version


def _put_in_service(
    settings: Settings, registry: ModelRegistry, version: str, actor: str, reason: str, canary: bool
) -> None:
    """Promote the version, or start it as a canary; neither while a canary runs, which a move would end."""
    running = registry.alias(CANARY)
    if running is not None:
        console.print(f"published, not promoted: {running.version} is the canary until it ends", highlight=False)
        return
    # There is nothing to compare the first one with.
    begin = start_canary if canary and registry.alias(LIVE) else aliases.promote
    move = begin(registry, version, actor=actor, reason=reason)
    asyncio.run(notify(settings, VERSIONS_CHANNEL, move.version))
    console.print(f"{move.alias} -> {move.version}", highlight=False)
