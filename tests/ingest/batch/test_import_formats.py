"""Whatever a file's format and compression, it means the same."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.settings import MAX_COLUMNS
from ingest.sources.files.source import FileSource
from recsys.errors import InvalidInput
from recsys.stores.event_log.memory import MemoryInteractionLog
from tests.ingest.shop import SHOP_COLUMNS, SHOP_MAPPING, SHOP_ROWS, Shop, shop_frame


def as_parquet(frame: pl.DataFrame, folder: Path) -> bytes:
    """With real types, not text: times as times, numbers as numbers."""
    path = folder / "written.parquet"
    frame.with_columns(pl.col("at").str.to_datetime()).write_parquet(path, row_group_size=3)
    return path.read_bytes()


WRITERS: dict[str, Callable[[pl.DataFrame, Path], bytes]] = {
    "csv": lambda frame, _: frame.write_csv().encode(),
    "tsv": lambda frame, _: frame.write_csv(separator="\t").encode(),
    "semicolons": lambda frame, _: frame.write_csv(separator=";", line_terminator="\r\n").encode(),
    "bom": lambda frame, _: b"\xef\xbb\xbf" + frame.write_csv().encode(),
    "utf-16": lambda frame, _: frame.write_csv().encode("utf-16"),
    "jsonl": lambda frame, _: frame.write_ndjson().encode(),
    "parquet": as_parquet,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "zst": zstd.compress,
    "two frames": lambda content: zstd.compress(content[:50]) + zstd.compress(content[50:]),
}


def content_of(shop: Shop) -> pl.DataFrame:
    return shop.rows().drop("partition")


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_every_format_and_compression_says_the_same(writer: str, packer: str, shop: Shop) -> None:
    path = shop.file("anything.bin", PACKERS[packer](WRITERS[writer](shop_frame(), shop.folder)))
    report = shop.load(path)
    assert report.counts.rows == len(SHOP_ROWS)
    assert [
        (row["event_id"], row["user_id"], row["item_id"], row["quantity"], row["price"], row["occurred_at"].isoformat())
        for row in content_of(shop).iter_rows(named=True)
    ] == [
        ("1-101", "ada", "101", 6.0, 2.55, "2026-01-05T08:26:00+00:00"),
        ("1-102", "ada", "102", 1.0, 20.0, "2026-01-05T08:26:00+00:00"),
        ("2-102", "bob", "102", 2.0, 2.1, "2026-07-06T08:00:00+00:00"),
        ("7-103", "eve", "103", 4.0, 9.99, "2026-07-08T11:00:00+00:00"),
        ("8-103", "bob", "103", 1.0, 9.5, "2026-07-09T11:00:00+00:00"),
    ]
    assert [(item.item_id, item.title, item.price) for item in shop.log.items()] == [
        ("101", "Lamp, red", 2.55),
        ("102", "Two\nlines", 2.1),
        ("103", "Café chair", 9.5),
    ]
    assert report.counts.rejected == {
        "not a product code": 1,
        "cancellation": 1,
        "price is not above 0": 1,
        "user_id is missing": 1,
    }
    assert report.distinct == {"users": 3, "items": 3, "invoices": 8}


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
dirty_rows = st.tuples(
    st.one_of(cells, st.integers(1, 9).map(str)),
    st.sampled_from(["101", "102", "POST", "", "999"]),
    st.one_of(st.none(), cells),
    st.integers(-3, 10),
    st.datetimes().map(
        lambda at: at.replace(year=1999 + at.year % 28, day=min(at.day, 28)).isoformat(timespec="microseconds")
    ),
    st.one_of(st.floats(-5, 1e6, allow_nan=False), st.integers(0, 100).map(float)),
    st.one_of(st.none(), cells),
)


@settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(dirty_rows, min_size=1, max_size=12))
def test_any_rows_fare_alike_in_every_format(rows: list[tuple[Any, ...]], tmp_path: Path) -> None:
    types = {"price": pl.Float64, "quantity": pl.Int64}
    frame = pl.DataFrame(rows, schema={name: types.get(name, pl.String) for name in SHOP_COLUMNS}, orient="row")
    outcomes = []
    for writer in ("csv", "tsv", "jsonl", "parquet"):
        shop = Shop(tmp_path, MemoryInteractionLog())
        report = shop.load(shop.file("rows", WRITERS[writer](frame, tmp_path)))
        outcomes.append((content_of(shop).to_dicts(), report.counts))
    assert outcomes[0][1].rows == len(rows)
    assert outcomes[1:] == outcomes[:-1]


def test_a_batchs_size_changes_nothing(tmp_path: Path) -> None:
    contents = []
    for size in (1, 3, 1000):
        shop = Shop(tmp_path / str(size), MemoryInteractionLog(), import_rows=size)
        shop.folder.mkdir()
        report = shop.load(shop.file("shop.csv", shop_frame().write_csv()))
        contents.append(
            (shop.rows().to_dicts(), report.counts, report.distinct, shop.rejected(report), shop.log.items())
        )
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n ", "holds nothing but space"),
        (b"PK\x03\x04rest", "save the sheet as CSV"),
        (b'[{"a": 1}]', "one object per line"),
        (b"PAR1 but not really", "is damaged"),
        (b"\x1f\x8b\x08\x00garbage", "is damaged"),
        (zstd.compress(b"a,b\n" * 1000)[:20], "is damaged"),
        (b"a,b,a\n1,2,3\n", "two columns named 'a'"),
        (b"a,\xff\n1,2\n", "latin-1"),
        (b"#row,b\n1,2\n", "rename it"),
    ],
)
def test_a_file_that_is_nothing_we_know_is_refused_with_what_to_do(content: bytes, reason: str, shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="file") as refusal:
        shop.load(shop.file("file", content))
    assert reason in str(refusal.value)
    assert shop.log.version() == -1


def test_a_missing_file_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        shop.load(shop.folder / "nowhere.csv")


@pytest.mark.parametrize("packer", ["gz", "zst"])
def test_a_file_that_breaks_off_keeps_what_came_before_and_says_so(packer: str, shop: Shop) -> None:
    rows = "".join(f"{n},101,Lamp,1,2026-01-05,2.5,user-{n * 7919 % 10007}\n" for n in range(20_000))
    whole = PACKERS[packer]((",".join(SHOP_COLUMNS) + "\n" + rows).encode())
    with pytest.raises(InvalidInput, match="is damaged"):
        Shop(shop.folder, shop.log, import_rows=1000).load(shop.file("cut.csv", whole[: len(whole) // 2]))
    kept = shop.rows().height
    assert 0 < kept < 20_000
    report = Shop(shop.folder, shop.log, import_rows=1000).load(shop.file("whole.csv", whole))
    assert (report.counts.known, report.counts.accepted) == (kept, 20_000 - kept)


def test_latin_1_is_read_when_the_mapping_says_so(shop: Shop) -> None:
    path = shop.file("latin.csv", shop_frame().write_csv().encode("latin-1"))
    shop.load(path, SHOP_MAPPING.model_copy(update={"encoding": "latin-1"}))
    assert [item.title for item in shop.log.items()][2] == "Café chair"


def test_progress_reaches_the_end_of_every_format(shop: Shop) -> None:
    for writer, write in WRITERS.items():
        source = FileSource(shop.file(writer, write(shop_frame(), shop.folder)), 3, MAX_COLUMNS, "utf-8", None)
        passed = [(batch.end, source.reader.position()) for _, batch in source.batches(None)]
        assert passed[-1] == (len(SHOP_ROWS), source.reader.total)
