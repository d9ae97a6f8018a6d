"""millirec doctor: check everything and say what to do."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from millirec.checkup import Finding, State, examine
from millirec.settings import load_settings
from millirec.terminal import console, print_json
from recsys.observability.text import printable

RUNBOOK = "docs/runbook.md"
COLOURS = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "red"}


def register(app: typer.Typer) -> None:
    """Add the `doctor` command to `app`."""

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
        findings = asyncio.run(examine(load_settings(), deep=deep))
        sound = all(finding.state is not State.WRONG for finding in findings)
        if json:
            print_json({"sound": sound, "findings": findings})
        else:
            console.print(_table(findings))
        if not sound:
            raise typer.Exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table("check", "", "what was found, and what to do")
    for finding in findings:
        lines = [Text(printable(finding.found))]
        lines += [Text(printable(finding.todo), style="yellow")] if finding.todo else []
        lines += [Text(f"{RUNBOOK}#{finding.section}", style="dim")] if finding.section else []
        table.add_row(finding.check, Text(finding.state.value, style=COLOURS[finding.state]), Text("\n").join(lines))
    return table
