"""A small dirty shop, and what is needed to import it."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ingest.batch.file_import import import_files
from ingest.batch.mapping import Mapping
from ingest.batch.report import FileReport
from ingest.settings import IngestSettings
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.delta import DeltaInteractionLog

SHOP_MAPPING = Mapping.model_validate(
    {
        "interaction": {
            "event_id": {"columns": ["invoice", "product"]},
            "user_id": "customer",
            "item_id": {"column": "product", "must_match": "^[0-9]{3}$", "reason": "not a product code"},
            "type": {"value": "purchase"},
            "occurred_at": {"column": "at", "time_zone": "Europe/London"},
            "quantity": "quantity",
            "price": {"column": "price", "above": 0},
        },
        "item": {"title": "name", "price": {"column": "price", "above": 0}},
        "reject": [{"column": "invoice", "matches": "^C", "reason": "cancellation"}],
        "count": {"invoices": "invoice"},
    }
)

SHOP_COLUMNS = ("invoice", "product", "name", "quantity", "at", "price", "customer")
SHOP_ROWS: list[tuple[Any, ...]] = [
    ("1", "101", "Lamp, red", 6, "2026-01-05T08:26:00", 2.55, "ada"),
    ("1", "102", 'A "nice" clock', 1, "2026-01-05T08:26:00", 20.0, "ada"),
    ("1", "101", "Lamp, red", 6, "2026-01-05T08:26:00", 2.55, "ada"),
    ("2", "102", "Two\nlines", 2, "2026-07-06T09:00:00", 2.1, "bob"),
    ("3", "POST", "Postage", 1, "2026-07-06T09:01:00", 18.0, "bob"),
    ("C4", "101", "Lamp, red", -6, "2026-07-07T10:00:00", 2.55, "ada"),
    ("5", "103", "Café chair", 1, "2026-07-08T10:00:00", 0.0, "eve"),
    ("6", "103", "Café chair", 4, "2026-07-08T11:00:00", 9.99, None),
    ("7", "103", "Café chair", 4, "2026-07-08T12:00:00", 9.99, "  eve "),
    ("8", "103", None, 1, "2026-07-09T12:00:00", 9.5, "bob"),
]

ROWS: list[tuple[Any, ...]] = [
    (
        str(n % 83),
        str(101 + n % 7),
        f"Title {n % 7} of {n % 28}",
        n % 5,
        f"2026-01-{1 + n % 28:02}",
        2.5,
        f"user-{n % 11}" if n % 9 else None,
    )
    for n in range(600)
]
"""Enough for several batches, with repeats, rejected rows and items that change."""


def shop_frame(rows: Sequence[tuple[Any, ...]] = SHOP_ROWS) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(SHOP_COLUMNS), orient="row")


@dataclass
class Shop:
    """A log and a folder to import into."""

    folder: Path
    log: InteractionLog
    import_rows: int = 4

    @property
    def settings(self) -> IngestSettings:
        return IngestSettings(rejected=self.folder / "rejected", import_rows=self.import_rows)

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, path: Path, mapping: Mapping | None = SHOP_MAPPING) -> FileReport:
        return import_files([path], mapping, self.log, self.settings).files[0]

    def rows(self) -> pl.DataFrame:
        return self.log.read().sort("partition", "offset").collect()

    def rejected(self, report: FileReport) -> list[dict[str, Any]]:
        assert report.rejected_rows is not None
        lines = gzip.decompress(Path(report.rejected_rows).read_bytes()).splitlines()
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]

    def outcome(self, report: FileReport) -> dict[str, Any]:
        """All that an import leaves behind, but for where it was interrupted."""
        return {
            "rows": self.rows().to_dicts(),
            "items": self.log.items(),
            "counts": report.counts,
            "distinct": report.distinct,
            "rejected": self.rejected(report),
            "unreported": report.unreported,
            "position": self.log.source_position(report.partition),
        }


def delta_shop(folder: Path) -> Shop:
    folder.mkdir(exist_ok=True)
    return Shop(folder, DeltaInteractionLog(str(folder / "log")), import_rows=50)
