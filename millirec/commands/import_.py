"""millirec import: files into the interaction log."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from millirec.settings import Settings, load_settings
from millirec.terminal import console, errors, progress_bar
from recsys.errors import StoreUnavailable


def register(app: typer.Typer) -> None:
    """Add the `import` command to `app`."""

    @app.command("import")
    def import_(
        files: Annotated[
            list[Path], typer.Argument(exists=True, dir_okay=False, help="CSV, TSV, JSON Lines, Parquet.")
        ],
        mapping: Annotated[
            Path | None, typer.Option(exists=True, dir_okay=False, help="YAML or TOML: columns to fields.")
        ] = None,
        report: Annotated[Path | None, typer.Option(help="Write the data-quality report here, as JSON.")] = None,
        seed: Annotated[bool, typer.Option(help="Make the feature store know the users and items at once.")] = True,
    ) -> None:
        """Import interactions and items from files, plain or compressed with gzip or Zstandard.

        Every raw row is accounted for as accepted, merged or rejected with a reason. Rejected rows are kept and
        can be imported again once their cause is mended. An import that was stopped goes on where it was; the same
        file twice changes nothing. Files with columns named like our fields (event_id, user_id, item_id, type,
        occurred_at) need no mapping; data/online_retail.yaml is an example of one.
        """
        settings = load_settings()
        written = import_into_log(files, mapping, settings)
        if report is not None:
            report.write_bytes(written)
            console.print(f"report: {report}")
        if seed:
            try:
                seed_store(settings)
            except StoreUnavailable as error:
                errors.print(f"the feature store was not seeded ({error}); later: millirec seed", highlight=False)


def import_into_log(files: Sequence[Path], mapping: Path | None, settings: Settings) -> bytes:
    """Import with a progress bar, print the data-quality report and return it as JSON."""
    from ingest.batch.file_import import Progress, import_files
    from ingest.batch.mapping import read_mapping
    from ingest.batch.report import render
    from recsys.stores.event_log import open_interaction_log

    with progress_bar() as bar:
        tasks = {path: bar.add_task(path.name, total=None) for path in files}

        def show(progress: Progress) -> None:
            """Move the progress bar of a file."""
            bar.update(tasks[progress.file], completed=progress.done, total=progress.total)

        read = read_mapping(mapping) if mapping is not None else None
        quality = import_files(files, read, open_interaction_log(settings.log), settings.ingest, show)
    console.print(render(quality))
    return quality.to_json()


def seed_store(settings: Settings) -> None:
    """Write users' recent interactions and all items of the log to the feature store."""
    from ingest.maintenance.rebuild import rebuild_features
    from recsys.stores.event_log import open_interaction_log
    from recsys.stores.online import open_stores

    async def seed() -> None:
        """Rebuild the features with a progress bar."""
        stores = open_stores(settings.store)
        try:
            with progress_bar() as bar:
                task = bar.add_task("feature store", total=None)
                await rebuild_features(
                    open_interaction_log(settings.log),
                    stores.users,
                    stores.items,
                    settings.store.history_length,
                    lambda done, total: bar.update(task, completed=done, total=total),
                )
        finally:
            await stores.aclose()

    asyncio.run(seed())
