"""millirec log tidy|stats|erasures."""

import asyncio
import signal
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
import typer
from rich.table import Column, Table

from millirec.settings import Settings, load_settings
from millirec.terminal import console, print_json_lines, progress_bar
from recsys.errors import RecsysError
from recsys.stores.online import open_stores
from recsys.stores.receipts import ErasureReceipt, open_erasure_receipts

if TYPE_CHECKING:
    from ingest.maintenance.tidy import TidyResult
    from recsys.stores.event_log.protocol import LogSize

app = typer.Typer(help="Tidy the interaction log, and see what erasures became of.", no_args_is_help=True)
log = structlog.get_logger()


@app.command()
def tidy(
    every: Annotated[float | None, typer.Option(min=0.01, help="Again every so many hours, until stopped.")] = None,
) -> None:
    """Rewrite small files into few, delete repeats, rows of erased users, and files that are no longer needed.

    Meant for cron, or with --every for a process of its own; readers and writers go on. Versions of the log stay
    readable for `log.retention` seconds: the time within which an erased row leaves the last file.
    """
    settings = load_settings()
    if every is None:
        _report(_tidy(settings))
        return
    ended = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: ended.set())
    while not ended.is_set():
        try:
            done = _tidy(settings)
        except RecsysError as error:
            log.error("the log could not be tidied", error=str(error))
        else:
            log.info("the log is tidy", **msgspec.to_builtins(done))
        ended.wait(every * 3600.0)


@app.command()
def stats() -> None:
    """Show how large the log is, and which versions of it can be read."""
    from recsys.stores.event_log import open_interaction_log

    interactions = open_interaction_log(load_settings().log)
    size = interactions.size()
    console.print(f"versions {size.oldest_version} to {size.version}: the newest has {_size(size)}", highlight=False)
    for partition, offset in interactions.watermarks().items():
        console.print(f"  {partition} up to {offset}", highlight=False)


@app.command()
def erasures(
    json: Annotated[bool, typer.Option("--json", help="JSON, one receipt a line.")] = False,
) -> None:
    """List the receipts of all erasures, newest first; they do not name the users."""
    receipts = sorted(open_erasure_receipts(load_settings().registry).all(), key=_requested_at, reverse=True)
    if json:
        print_json_lines(receipts)
        return
    table = Table(Column("receipt", no_wrap=True), "requested", "features gone", Column("rows", justify="right"))
    for name in ("rows deleted", "files deleted"):
        table.add_column(name)
    for receipt in receipts:
        moments = map(
            _moment,
            (receipt.requested_at, receipt.features_removed_at, receipt.rows_deleted_at, receipt.files_deleted_at),
        )
        requested, features, deleted, vacuumed = moments
        table.add_row(
            receipt.receipt,
            requested,
            features,
            "-" if receipt.rows is None else f"{receipt.rows:,}",
            deleted,
            vacuumed,
        )
    console.print(table)


def _tidy(settings: Settings) -> "TidyResult":
    from ingest.maintenance.tidy import tidy as tidied
    from recsys.stores.event_log import open_interaction_log

    async def run() -> "TidyResult":
        """Tidy the log with a progress bar."""
        stores = open_stores(settings.store)
        try:
            with progress_bar() as bar:
                task = bar.add_task("log", total=None)
                return await tidied(
                    open_interaction_log(settings.log),
                    stores.users,
                    open_erasure_receipts(settings.registry),
                    settings.log.retention,
                    lambda stage: bar.update(task, description=stage),
                )
        finally:
            await stores.aclose()

    return asyncio.run(run())


def _report(done: "TidyResult") -> None:
    console.print(f"before: {_size(done.size_before)}", highlight=False)
    console.print(f"after:  {_size(done.size_after)}", highlight=False)
    console.print(
        f"{done.rows:,} rows deleted or moved, {done.files:,} files deleted, {done.completed:,} erasures complete; "
        f"versions from {done.size_after.oldest_version} on can be read",
        highlight=False,
    )


def _size(size: "LogSize") -> str:
    return f"{size.rows:,} rows in {size.files:,} files, {size.bytes / 1e6:,.1f} MB"


def _requested_at(receipt: ErasureReceipt) -> datetime:
    return receipt.requested_at


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
