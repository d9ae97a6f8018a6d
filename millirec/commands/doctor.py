"""millirec doctor: check everything and say what to do."""

import asyncio
import sys
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from millirec.checkup import Finding, State, examine
from millirec.settings import load_settings
from millirec.terminal import console

RUNBOOK = "docs/runbook.md"
COLOURS = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "red"}


def register(app: typer.Typer) -> None:
    @app.command("doctor")
    def doctor(
        deep: Annotated[
            bool, typer.Option("--deep", help="Download every version and verify the checksum of every file.")
        ] = False,
        json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
    ) -> None:
        """Check connections, registry, aliases, workers, consumers and disks, and say what to do.

        Exit code 1 if something is wrong. Each finding names its section of docs/runbook.md.
        """
        found = asyncio.run(examine(load_settings(), deep=deep))
        sound = all(one.state is not State.WRONG for one in found)
        if json:
            raw = msgspec.json.encode({"sound": sound, "findings": found})
            sys.stdout.write(f"{msgspec.json.format(raw).decode()}\n")
        else:
            console.print(_table(found))
        if not sound:
            raise typer.Exit(1)


def _table(found: list[Finding]) -> Table:
    table = Table("check", "", "what was found, and what to do")
    for one in found:
        told = [escape(one.found)]
        told += [f"[yellow]{escape(one.todo)}[/yellow]"] if one.todo else []
        told += [f"[dim]{RUNBOOK}#{one.section}[/dim]"] if one.section else []
        colour = COLOURS[one.state]
        table.add_row(escape(one.check), f"[{colour}]{one.state.value}[/{colour}]", "\n".join(told))
    return table
