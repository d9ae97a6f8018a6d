"""millirec doctor: check everything and say what to do."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from millirec.checkup import Finding, State, examine
from millirec.settings import load_settings
from millirec.terminal import console, print_json
from recsys.printable import printable

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
            print_json({"sound": sound, "findings": found})
        else:
            console.print(_table(found))
        if not sound:
            raise typer.Exit(1)


def _table(found: list[Finding]) -> Table:
    table = Table("check", "", "what was found, and what to do")
    for one in found:
        told = [Text(printable(one.found))]
        told += [Text(printable(one.todo), style="yellow")] if one.todo else []
        told += [Text(f"{RUNBOOK}#{one.section}", style="dim")] if one.section else []
        table.add_row(one.check, Text(one.state.value, style=COLOURS[one.state]), Text("\n").join(told))
    return table
