"""millirec versions list|show|promote|rollback|prune|history."""

import asyncio
import getpass
from typing import Annotated

import msgspec
import typer
from rich.table import Column, Table

from millirec.replicas import nudge
from millirec.settings import Settings, load_settings
from millirec.terminal import console
from recsys.feature_store import VERSIONS_CHANNEL
from recsys.index_registry import IndexRegistry, aliases, open_index_registry
from recsys.index_version import LIVE, AliasMove

app = typer.Typer(help="List, inspect, promote, roll back and prune index versions.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit history.")]
SHOWN_METRICS = ("recall@20", "ndcg@20")


@app.command("list")
def list_versions() -> None:
    """Every version, oldest first, with what points at it."""
    registry = open_index_registry(load_settings().registry)
    pointing: dict[str, list[str]] = {}
    for alias, version in aliases.aliases_of(registry).items():
        pointing.setdefault(version, []).append(alias)
    table = Table(Column("version", no_wrap=True), "alias", "learned", Column("items", justify="right"))
    for name in SHOWN_METRICS:
        table.add_column(name, justify="right")
    for one in registry.versions():
        metrics = [f"{one.metrics[name]:.4f}" if name in one.metrics else "-" for name in SHOWN_METRICS]
        names = ", ".join(sorted(pointing.get(one.version, [])))
        table.add_row(one.version, names, one.algorithm, f"{one.items:,}", *metrics)
    console.print(table)


@app.command()
def show(version: Annotated[str, typer.Argument(help="A version, or an alias such as `live`.")] = LIVE) -> None:
    """The whole manifest of a version, as JSON."""
    registry = open_index_registry(load_settings().registry)
    move = registry.alias(version)
    manifest = registry.manifest(move.version if move else version)
    console.print_json(msgspec.json.encode(manifest).decode())


@app.command()
def promote(version: Annotated[str, typer.Argument(help="The version to put in service.")], reason: Reason) -> None:
    """Put a version in service on every replica."""
    settings = load_settings()
    registry = open_index_registry(settings.registry)
    _announce(settings, aliases.promote(registry, version, actor=getpass.getuser(), reason=reason))


@app.command()
def rollback(reason: Reason) -> None:
    """Put the version before the live one back in service."""
    settings = load_settings()
    registry = open_index_registry(settings.registry)
    _announce(settings, aliases.rollback(registry, actor=getpass.getuser(), reason=reason))


@app.command()
def history(alias: Annotated[str, typer.Argument(help="The alias.")] = LIVE) -> None:
    """Who moved an alias, when and why."""
    registry: IndexRegistry = open_index_registry(load_settings().registry)
    table = Table("#", "moved at", Column("version", no_wrap=True), "actor", "reason")
    for move in registry.history(alias):
        table.add_row(str(move.sequence), f"{move.moved_at:%Y-%m-%d %H:%M:%S}", move.version, move.actor, move.reason)
    console.print(table)


@app.command()
def prune(keep: Annotated[int, typer.Option(min=0, help="How many of the newest to keep.")] = 5) -> None:
    """Delete old versions, never one in service or the one a rollback would bring back."""
    deleted = aliases.prune(open_index_registry(load_settings().registry), keep)
    console.print(f"deleted {len(deleted)}: {', '.join(deleted)}" if deleted else "nothing to delete")


def _announce(settings: Settings, move: AliasMove) -> None:
    console.print(f"{move.alias} -> {move.version} (move {move.sequence}: {move.reason})", highlight=False)
    asyncio.run(nudge(settings, VERSIONS_CHANNEL, move.version))
