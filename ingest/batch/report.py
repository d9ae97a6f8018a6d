"""The data-quality report: every raw row accounted for as accepted, merged or rejected with a reason."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.messages.interaction import Timestamp
from recsys.observability.text import printable


class Counts(msgspec.Struct, kw_only=True):
    """What became of some raw rows; counts of two batches add up.

    `rejected` counts each rejected row under its one reason; `problems` counts every problem of every row,
    so it sums to more. `repeats` are rows that repeat an earlier row of the import, `known` are rows whose
    interaction the log held already: both are merged.
    """

    rows: int = 0
    accepted: int = 0
    repeats: int = 0
    known: int = 0
    rejected: dict[str, int] = {}
    problems: dict[str, int] = {}
    first: Timestamp | None = None
    last: Timestamp | None = None

    @property
    def merged(self) -> int:
        """Return the number of merged rows: repeats of the import and interactions already in the log."""
        return self.repeats + self.known

    def check(self) -> None:
        """Check that every row is accounted for; raises `RuntimeError`: a defect of the import, never of the data."""
        accounted = self.accepted + self.merged + sum(self.rejected.values())
        if accounted != self.rows:
            raise RuntimeError(f"{self.rows} raw rows, but {accounted} accounted for")


def total(parts: Iterable[Counts]) -> Counts:
    """Return the sum of `parts`; `first` and `last` become the earliest and the latest time."""
    parts = list(parts)
    return Counts(
        rows=sum(part.rows for part in parts),
        accepted=sum(part.accepted for part in parts),
        repeats=sum(part.repeats for part in parts),
        known=sum(part.known for part in parts),
        rejected=dict(sum((Counter(part.rejected) for part in parts), Counter())),
        problems=dict(sum((Counter(part.problems) for part in parts), Counter())),
        first=min((part.first for part in parts if part.first is not None), default=None),
        last=max((part.last for part in parts if part.last is not None), default=None),
    )


class FileReport(msgspec.Struct, kw_only=True):
    """One file's import. `distinct` counts users and items of accepted rows and the mapping's own counts of all rows.

    `unreported` rows were imported before and their report was deleted since: nothing is known of them here.
    """

    file: str
    partition: str
    counts: Counts
    distinct: dict[str, int] = {}
    rejected_rows: str | None = None
    already_imported: bool = False
    unreported: int = 0


class QualityReport(msgspec.Struct, kw_only=True):
    """The report of one `millirec import`."""

    files: list[FileReport]

    @property
    def counts(self) -> Counts:
        """Return the counts of all files together."""
        return total(file.counts for file in self.files)

    def to_json(self) -> bytes:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def render(report: QualityReport) -> RenderableType:
    """Return tables for a terminal: outcomes of each file's rows, and reasons of rejections."""
    return Group(_outcomes(report), _reasons(report.counts), *_notes(report))


def _outcomes(report: QualityReport) -> Table:
    table = Table(title="Data quality", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("raw rows", "accepted", "merged", "rejected"):
        table.add_column(name, justify="right")
    for file in report.files:
        table.add_row(Text(printable(Path(file.file).name)).append(_contents(file), style="dim"), *_cells(file.counts))
    if len(report.files) > 1:
        table.add_row("together", *_cells(report.counts), style="bold")
    return table


def _contents(file: FileReport) -> str:
    first, last = file.counts.first, file.counts.last
    period = "" if first is None or last is None else f"\n  {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    distinct = ", ".join(f"{count:,} {name}" for name, count in file.distinct.items())
    return f"{period}\n  {distinct}" if distinct else period


def _cells(counts: Counts) -> list[str]:
    numbers = (counts.rows, counts.accepted, counts.merged, sum(counts.rejected.values()))
    return [f"{number:,}" for number in numbers]


def _reasons(counts: Counts) -> Table:
    table = Table(title="Not accepted, and why", title_justify="left")
    table.add_column("reason")
    table.add_column("rows", justify="right")
    table.add_column("rows with this problem", justify="right")
    for reason, rows in sorted(counts.rejected.items(), key=lambda pair: -pair[1]):
        table.add_row(reason, f"{rows:,}", f"{counts.problems.get(reason, rows):,}")
    for reason in sorted(counts.problems.keys() - counts.rejected.keys()):
        table.add_row(reason, "", f"{counts.problems[reason]:,}")
    for name, rows in (
        ("merged: repeats an earlier row", counts.repeats),
        ("merged: in the log already", counts.known),
    ):
        if rows:
            table.add_row(name, f"{rows:,}", "", style="dim")
    return table


def _notes(report: QualityReport) -> list[Text]:
    notes = []
    for file in report.files:
        if file.already_imported:
            notes.append(f"{file.file} was already imported; nothing changed")
        if file.unreported:
            notes.append(f"{file.file}: {file.unreported:,} rows were imported earlier and their report is gone")
        if file.rejected_rows is not None:
            notes.append(f"rejected rows: {file.rejected_rows} (mend the cause, then import that file)")
    return [Text(printable(note)) for note in notes]
