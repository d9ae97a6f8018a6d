"""The sources that the contract is held for: a new kind of source adds its case to `CASES`."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from ingest.settings import MAX_COLUMNS
from ingest.sources.files.source import FileSource
from ingest.sources.protocol import Source

ROWS = pl.DataFrame({"user_id": [f"user-{n}" for n in range(23)], "item_id": [f"item-{n % 5}" for n in range(23)]})
"""What every case has, in this order."""


@dataclass(frozen=True)
class SourceCase:
    """A source with ROWS in it: `open_source` opens it anew for batches of a size, `change` changes what is read."""

    open_source: Callable[[int], Source]
    change: Callable[[], object]


def file_case(content: bytes, folder: Path) -> SourceCase:
    path = folder / "rows"
    path.write_bytes(content)
    return SourceCase(
        lambda size: FileSource(path, size, MAX_COLUMNS, "utf-8", None), lambda: path.write_bytes(content[:-1])
    )


def parquet(folder: Path) -> bytes:
    ROWS.write_parquet(folder / "written", row_group_size=5)
    return (folder / "written").read_bytes()


CASES: dict[str, Callable[[Path], SourceCase]] = {
    "csv": lambda folder: file_case(ROWS.write_csv().encode(), folder),
    "csv.gz": lambda folder: file_case(gzip.compress(ROWS.write_csv().encode()), folder),
    "tsv in utf-16": lambda folder: file_case(ROWS.write_csv(separator="\t").encode("utf-16"), folder),
    "json lines": lambda folder: file_case(ROWS.write_ndjson().encode(), folder),
    "jsonl.zst": lambda folder: file_case(zstd.compress(ROWS.write_ndjson().encode()), folder),
    "parquet": lambda folder: file_case(parquet(folder), folder),
    "parquet.gz": lambda folder: file_case(gzip.compress(parquet(folder)), folder),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> SourceCase:
    made: SourceCase = CASES[request.param](tmp_path)
    return made
