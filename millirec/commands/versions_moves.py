"""millirec versions promote|rollback|clear|pin|unpin: what leaves a line in the audit history."""

import asyncio
from typing import Annotated

import typer

from millirec.operations import actor_name, notify
from millirec.settings import Settings, load_settings
from millirec.terminal import Model, console
from recsys.models.alias_move import LIVE, AliasMove
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry import aliases, open_model_registry
from recsys.stores.notifications import VERSIONS_CHANNEL

Version = Annotated[str, typer.Argument(help="A version of the model.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit history.")]
Alias = Annotated[
    str, typer.Option(help="`live`, `candidate`, `canary`, `shadow`, or `placement:NAME` for that placement alone.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (promote, rollback, clear, pin, unpin):
        app.command()(command)


def promote(version: Version, reason: Reason, alias: Alias = LIVE, model: Model = RECOMMENDER) -> None:
    """Put a version in service on every replica, or point another alias at it, once it was opened on this machine."""
    from recsys.opening import open_proving_registry

    settings = load_settings()
    registry = open_proving_registry(settings.registry, model)
    _announce(settings, aliases.promote(registry, version, actor=actor_name(), reason=reason, alias=alias))


def rollback(reason: Reason, model: Model = RECOMMENDER) -> None:
    """Put the version before the live one back in service."""
    from recsys.opening import open_proving_registry

    settings = load_settings()
    registry = open_proving_registry(settings.registry, model)
    _announce(settings, aliases.rollback(registry, actor=actor_name(), reason=reason))


def clear(
    alias: Annotated[str, typer.Argument(help="Any alias but `live`.")], reason: Reason, model: Model = RECOMMENDER
) -> None:
    """Clear an alias, so that it points at no version."""
    settings = load_settings()
    registry = open_model_registry(settings.registry, model)
    _announce(settings, registry.move_alias(alias, None, actor=actor_name(), reason=reason))


def pin(version: Version, reason: Reason, model: Model = RECOMMENDER) -> None:
    """Keep a version from being pruned or deleted."""
    registry = open_model_registry(load_settings().registry, model)
    move = aliases.pin(registry, version, actor=actor_name(), reason=reason)
    console.print(f"{version} is kept: {move.reason}", highlight=False)


def unpin(version: Version, reason: Reason, model: Model = RECOMMENDER) -> None:
    """Let a pinned version be pruned or deleted again."""
    registry = open_model_registry(load_settings().registry, model)
    aliases.unpin(registry, version, actor=actor_name(), reason=reason)
    console.print(f"{version} is no longer pinned", highlight=False)


def _announce(settings: Settings, move: AliasMove) -> None:
    where = "nowhere" if move.cleared else move.version
    console.print(f"{move.alias} -> {where} (move {move.sequence}: {move.reason})", highlight=False)
    asyncio.run(notify(settings, VERSIONS_CHANNEL, move.version))
