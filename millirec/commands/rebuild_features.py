"""millirec rebuild-features: users' records from the interaction log."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from millirec.settings import Settings, load_settings
from millirec.terminal import console, progress_bar
from recsys.errors import InvalidInput, LogUnavailable
from recsys.stores.online import open_stores

if TYPE_CHECKING:
    from ingest.maintenance.rebuild import RebuildResult
    from recsys.stores.event_log import InteractionLog

PATIENCE = 60
"""Times that the log is looked at, as far apart as its consumer's commits, before its consumer counts as stopped."""
AGO = re.compile(r"(\d{1,4})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
POSITION = re.compile(r"(.+):(\d{1,19})")


def register(app: typer.Typer) -> None:
    """Add the `rebuild-features` command to `app`."""

    @app.command("rebuild-features")
    def rebuild_features(
        since: Annotated[
            list[str] | None,
            typer.Option(
                "--from",
                help="Only users of whom the log got something since: `2h`, a time, a version of the log (`v17`), "
                "or a place on the topic such as `interactions-0:5000`, which may be given for each partition.",
            ),
        ] = None,
        empty: Annotated[
            bool, typer.Option("--empty", help="As if the store were empty, unless it has seen more than the log.")
        ] = False,
        trends: Annotated[bool, typer.Option(help="Count the last week's trends where nobody has.")] = True,
    ) -> None:
        """Make users' records from the interaction log, just as the stream made them, and join what is stored.

        For a store that was lost, restored from a backup, or is in doubt. Safe while consumers run: they go on
        from wherever they are, and nothing is counted twice.
        """
        settings = load_settings()
        done, counted = asyncio.run(_rebuild(settings, since or [], empty, trends))
        console.print(f"{done.users:,} users rebuilt from the log, which has come to:", highlight=False)
        for partition, offset in done.watermarks.items():
            console.print(f"  {partition} up to {offset}", highlight=False)
        if counted:
            console.print(f"trends were being counted already on {', '.join(counted)}", highlight=False)


async def _rebuild(
    settings: Settings, since: list[str], empty: bool, trends: bool
) -> "tuple[RebuildResult, list[str]]":
    from ingest.maintenance.rebuild import rebuild_features, rebuild_trends
    from ingest.stream.versions_in_service import VersionsInService
    from recsys.stores.event_log import open_interaction_log

    log = open_interaction_log(settings.log)
    stores = open_stores(settings.store)
    try:
        versions = VersionsInService(settings.registry, stores.notifications, settings.ingest.refresh)
        await versions.refresh()
        with progress_bar() as bar:
            task = bar.add_task("users", total=None)
            rebuild = partial(
                rebuild_features,
                log,
                stores.users,
                stores.items,
                settings.store.history_length,
                lambda users, total: bar.update(task, completed=users, total=total),
                indexes=versions.indexes,
            )
            done = await rebuild(since=_start(since, log), anew=empty)
            if done.ahead:
                bar.update(task, description="waiting for the log to come as far as the store")
                await _reached(log, done.ahead, settings.ingest.log_wait)
                bar.update(task, description="users who came meanwhile")
                done = replace(await rebuild(since=done.watermarks), users=done.users)
        return done, await rebuild_trends(log, stores.trends, 1000 * time()) if trends else []
    finally:
        await stores.aclose()


async def _reached(log: "InteractionLog", offsets: Mapping[str, int], pause: float) -> None:
    """Wait until the log has come to `offsets`. Raises `LogUnavailable` where no consumer writes the log."""
    for _ in range(PATIENCE):
        watermarks = await asyncio.to_thread(log.watermarks)
        if all(watermarks.get(partition, -1) >= offset for partition, offset in offsets.items()):
            return
        await asyncio.sleep(pause)
    raise LogUnavailable("the log stays behind the store: does its consumer run (millirec consume)? Then rebuild again")


def _start(since: list[str], log: "InteractionLog") -> dict[str, int] | None:
    """Return the last offset per partition to skip, None for a full rebuild. Raises `InvalidInput`, `NotFound`."""
    if not since:
        return None
    if all(POSITION.fullmatch(text) and _time(text) is None for text in since):
        # A partition that is not named need not be looked at.
        named = {match[1]: int(match[2]) - 1 for text in since if (match := POSITION.fullmatch(text))}
        return {**log.watermarks(), **named}
    if len(since) > 1:
        raise InvalidInput("from", "only places on the topic may be given more than once")
    moment = _time(since[0])
    if moment is not None:
        version = log.version_at(moment)
        return None if version < 0 else log.watermarks(version)
    if re.fullmatch(r"v\d{1,18}", since[0]):
        return log.watermarks(int(since[0][1:]))
    raise InvalidInput("from", f"{since[0]!r} is neither like 2h nor a time, a version (v17) or a place (topic-0:5000)")


def _time(text: str) -> datetime | None:
    """Return the time that `2h` (ago) or an ISO time means, in UTC where it names no zone; None for other text."""
    if (ago := AGO.fullmatch(text)) is not None:
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
