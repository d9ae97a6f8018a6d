"""millirec placements list|show|set|delete|history."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Column, Table

from millirec.operations import actor_name, notify
from millirec.settings import Settings, load_settings
from millirec.terminal import console, print_json
from recsys.errors import InvalidInput, NotFound
from recsys.messages.wire import invalid_input
from recsys.recommender.placement import READY_MADE, Placement, PlacementChange
from recsys.stores.notifications import PLACEMENTS_CHANNEL
from recsys.stores.settings_log import open_settings_log

app = typer.Typer(help="See and change placements while the service runs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A placement, such as `home`.")]


@app.command("list")
def list_placements() -> None:
    """List every placement in force, and where it was set."""
    settings = load_settings()
    changes = open_settings_log(settings.registry).newest()
    table = Table(Column("placement", no_wrap=True), "origin", Column("k", justify="right"), "sources", "filter")
    for name, (origin, placement) in sorted(_in_force(settings, changes).items()):
        sources = ", ".join(f"{part.source} {part.share:g}" for part in placement.sources)
        table.add_row(name, origin, str(placement.k), sources, placement.filter)
    console.print(table)


@app.command()
def show(name: Name) -> None:
    """Print the whole placement as JSON, as `set` takes it."""
    settings = load_settings()
    entry = _in_force(settings, open_settings_log(settings.registry).newest()).get(name)
    if entry is None:
        raise NotFound("placement", name)
    print_json(entry[1])


@app.command("set")
def set_placement(
    name: Name,
    body: Annotated[str, typer.Argument(help="The whole placement as JSON, such as '{\"k\": 3}', or @FILE.")],
) -> None:
    """Set a placement on every replica, over a configured or ready-made one of this name."""
    settings = load_settings()
    _change(settings, name, _decoded(body))


@app.command()
def delete(name: Name) -> None:
    """Delete a placement that was set; the configured or ready-made one of this name answers again, if there is one."""
    settings = load_settings()
    last = open_settings_log(settings.registry).newest().get(name)
    if last is None or last.placement is None:
        raise NotFound("placement set at run time", name)
    _change(settings, name, None)


@app.command()
def history(name: Name) -> None:
    """List the changes of a placement: who made them and when."""
    table = Table("#", "changed at", "actor", "placement")
    for change in open_settings_log(load_settings().registry).history(name):
        body = (
            "taken back" if change.placement is None else msgspec.json.encode(_differences(change.placement)).decode()
        )
        table.add_row(str(change.sequence), f"{change.changed_at:%Y-%m-%d %H:%M:%S}", change.actor, body)
    console.print(table)


def _in_force(settings: Settings, changes: dict[str, PlacementChange]) -> dict[str, tuple[str, Placement]]:
    placements = {name: ("ready-made", placement) for name, placement in READY_MADE.items()}
    placements |= {name: ("settings", placement) for name, placement in settings.serve.placements.items()}
    for name, change in changes.items():
        if change.placement is not None:
            placements[name] = ("operator", change.placement)
    return placements


def _decoded(body: str) -> Placement:
    try:
        raw = Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
        return msgspec.json.decode(raw, type=Placement)
    except OSError as error:
        raise InvalidInput("placement", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_input(error, "placement") from error


def _differences(placement: Placement) -> dict[str, object]:
    """Return the fields of a placement that differ from the defaults."""
    default = msgspec.to_builtins(Placement())
    return {name: value for name, value in msgspec.to_builtins(placement).items() if value != default[name]}


def _change(settings: Settings, name: str, placement: Placement | None) -> None:
    change = open_settings_log(settings.registry).change(name, placement, actor=actor_name())
    console.print(f"{name} {'set' if placement else 'taken back'} (change {change.sequence})", highlight=False)
    asyncio.run(notify(settings, PLACEMENTS_CHANNEL, name))
