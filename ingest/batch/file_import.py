"""Import files into the log: `millirec import`.

Each file is a source of its own, named by a digest of its content and its mapping. So the log itself says that a file
was imported already, and where an import that was killed goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ingest.batch.checkpoint import ImportFolder
from ingest.batch.mapping import Mapping, mapping_by_name
from ingest.batch.report import FileReport, QualityReport
from ingest.batch.source_import import SourceImport
from ingest.settings import IngestSettings
from ingest.sources.files.source import FileSource
from ingest.sources.rows import ROW
from recsys.errors import InvalidInput
from recsys.stores.event_log import InteractionLog


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is: `done` of `total` (bytes, or rows where the format knows them), and `rows` so far."""

    file: Path
    rows: int
    done: int
    total: int


def import_files(
    paths: Sequence[Path],
    mapping: Mapping | None,
    log: InteractionLog,
    settings: IngestSettings,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    moment: datetime | None = None,
) -> QualityReport:
    """Import each file, or the rest of it, and return the report. Without a mapping the columns must have our names.

    Memory stays bounded by `settings.import_rows`, plus 8 bytes per interaction of the log for recognising repeats.
    Raises `InvalidInput` before anything is written when a file or the mapping is unfit, and at the damaged
    position of a file (rows before it stay imported); `Conflict` when another process imports the same file;
    `LogUnavailable`.
    """
    moment = moment or datetime.now(UTC)
    prepared = [_prepare(path, mapping, log, settings, moment) for path in paths]
    report = QualityReport(files=[file_import.run(progress) for file_import in prepared])
    if not all(file.already_imported for file in report.files):
        # Rows in no order of time leave a small file per batch and date.
        log.compact()
    return report


def _prepare(
    path: Path, mapping: Mapping | None, log: InteractionLog, settings: IngestSettings, moment: datetime
) -> "_FileImport":
    dialect = mapping or Mapping.model_construct()
    opened = FileSource(path, settings.import_rows, settings.import_columns, dialect.encoding, dialect.delimiter)
    if ROW in opened.columns:
        raise InvalidInput(str(path), f"has a column named {ROW!r}: rename it")
    mapping = mapping or mapping_by_name(opened.columns)
    mapping.check_columns(opened.columns)
    source = opened.for_purpose(mapping.model_dump_json().encode())
    folder = ImportFolder(settings.rejected / f"{path.name}-{source.digest}")
    return _FileImport(source, SourceImport(source, str(path), mapping, folder, log, settings, moment))


@dataclass(frozen=True, slots=True)
class _FileImport:
    source: FileSource
    source_import: SourceImport

    def run(self, progress: Callable[[Progress], None]) -> FileReport:
        """Import the file or the rest of it and return its report; raises `Conflict` if another process imports it."""
        folder, log, reader = self.source_import.folder, self.source_import.log, self.source.reader
        with folder.locked():
            start = log.watermark(self.source.partition)
            report = folder.report()
            if report is not None and start >= 0:
                folder.discard_batches()
                progress(Progress(self.source.path, start + 1, reader.total, reader.total))
                return msgspec.structs.replace(report, already_imported=True)
            return self.source_import.run(
                lambda rows: progress(Progress(self.source.path, rows, reader.position(), reader.total))
            )
