"""Checks the processes that `millirec up` or `demo` runs on this machine."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from millirec.checkup.finding import Finding, fine, note, wrong
from millirec.settings import Settings
from millirec.standalone.process_record import DATA_VARIABLE, SupervisorRecord, read_record

NAME = "supervisor"


async def supervised(settings: Settings) -> list[Finding]:  # noqa: ARG001
    """Check the processes that `millirec up` runs; no findings outside of a standalone deployment."""
    data = os.environ.get(DATA_VARIABLE)
    if data is None:
        return []
    record = await asyncio.to_thread(read_record, Path(data))
    if record is None or not record.alive:
        return [note(NAME, f"nothing runs on {data}", f"Start it: millirec up --data {data}", "process-ended")]
    return [*_ended(record)] or [fine(NAME, f"{len(record.processes)} processes run")]


def _ended(record: SupervisorRecord) -> Iterator[Finding]:
    for process in record.processes:
        if process.ended_at is None:
            continue
        ago = (datetime.now(UTC) - process.ended_at).total_seconds()
        text = f"ended {ago:,.0f} s ago ({process.ending}){process.words and ': '}{process.words}"
        todo = f"Its log says why: {process.log}"
        if process.running:
            yield note(process.name, f"runs, started again {process.restarts} times; it {text}", todo, "process-ended")
        else:
            yield wrong(
                process.name,
                f"is being started again, {process.restarts} times so far; it {text}",
                todo,
                "process-ended",
            )
