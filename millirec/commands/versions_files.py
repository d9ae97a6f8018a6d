"""millirec versions prune|collect|export|import: what removes files, takes them elsewhere and brings them in."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from millirec.operations import actor_name
from millirec.settings import load_settings
from millirec.terminal import Model, console
from recsys.errors import InvalidInput
from recsys.models.kinds import summary_of
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry import open_model_registry, pruning
from recsys.stores.model_registry.archive import export_version, import_version

AGE = re.compile(r"(\d{1,5})([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(prune)
    app.command()(collect)
    app.command("export")(export)
    app.command("import")(import_)


def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest to keep.")] = 5,
    older_than: Annotated[str, typer.Option(help="Only versions made longer ago: `12h`, `30d`, `8w`.")] = "0m",
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", help="Why; kept in the history, by default the options used.")
    ] = None,
    dry_run: Dry = False,
    model: Model = RECOMMENDER,
) -> None:
    """Delete old versions that nothing points at: none in service, none a rollback would bring back, none pinned.

    What is left of uploads that never came to their end goes too.
    """
    registry, age = open_model_registry(load_settings().registry, model), _age(older_than)
    if dry_run:
        gone = pruning.prunable(registry, keep, age)
    else:
        audit_reason = reason or f"prune --keep {keep} --older-than {older_than}"
        gone = pruning.prune(registry, keep, age, actor=actor_name(), reason=audit_reason)
    _tell(gone, dry_run)
    if leftovers := pruning.collect(registry, dry_run=dry_run):
        _tell(leftovers, dry_run)


def collect(
    older_than: Annotated[str, typer.Option(help="Only what was last written to longer ago: `12h`, `2d`.")] = "1d",
    dry_run: Dry = False,
    model: Model = RECOMMENDER,
) -> None:
    """Remove what is left of uploads and deletions that never came to their end; no reader sees them."""
    registry = open_model_registry(load_settings().registry, model)
    _tell(pruning.collect(registry, _age(older_than), dry_run=dry_run), dry_run)


def export(
    version: Annotated[str, typer.Argument(help="An index version.")],
    file: Annotated[Path, typer.Argument(help="Where to; compressed when it ends in `.zst`.", dir_okay=False)],
    model: Model = RECOMMENDER,
) -> None:
    """Write a version to one file, for another registry."""
    settings = load_settings()
    export_version(open_model_registry(settings.registry, model), version, settings.registry.cache, file)
    console.print(f"{version} -> {file} ({file.stat().st_size / 1e6:,.1f} MB)", highlight=False)


def import_(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.", exists=True, dir_okay=False)],
) -> None:
    """Publish a version from one file under its model, every checksum verified; promote it to put it in service."""
    settings = load_settings()
    manifest = import_version(open_model_registry(settings.registry), file, settings.registry.cache)
    console.print(f"published {manifest.version} of {manifest.model}: {summary_of(manifest)}", highlight=False)


def _tell(versions: list[str], dry_run: bool) -> None:
    verb = "would delete" if dry_run else "deleted"
    console.print(f"{verb} {len(versions)}: {', '.join(versions)}" if versions else "nothing to delete")


def _age(text: str) -> timedelta:
    match = AGE.fullmatch(text)
    if match is None:
        raise InvalidInput("older_than", f"{text!r} is no age such as 12h, 30d or 8w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
