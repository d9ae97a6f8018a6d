"""The shipped data's import is a known answer, and agrees with independent counts of the raw files."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from ingest.batch.file_import import import_files
from ingest.batch.mapping import read_mapping
from ingest.batch.report import QualityReport, render
from ingest.settings import IngestSettings
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.delta import DeltaInteractionLog

DATA = Path(__file__).parents[3] / "data"
EARLIER, LATER = DATA / "online_retail_ii_2009_2010.parquet", DATA / "online_retail.parquet"
Imported = tuple[QualityReport, InteractionLog]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("import")
    log = DeltaInteractionLog(str(folder / "log"))
    settings = IngestSettings(rejected=folder / "rejected")
    return import_files([EARLIER, LATER], read_mapping(DATA / "online_retail.yaml"), log, settings), log


def test_the_first_file_has_its_published_counts(imported: Imported) -> None:
    later = imported[0].files[1]
    assert later.counts.rows == 541_909
    assert later.distinct["invoices"] == 25_900
    assert later.counts.problems["user_id is missing"] == 135_080
    assert later.counts.problems["cancellation"] == 9_288


def test_both_files_are_accounted_for_to_the_row(imported: Imported) -> None:
    earlier, later = (file.counts for file in imported[0].files)
    assert (earlier.rows, earlier.accepted, earlier.repeats, earlier.known) == (525_461, 399_566, 6_745, 0)
    assert (later.rows, later.accepted, later.repeats, later.known) == (541_909, 376_940, 4_873, 14_445)
    assert imported[0].counts.rejected == {
        "user_id is missing": 242_249,
        "cancellation": 19_494,
        "not a product code": 2_990,
        "price is not above 0": 62,
        "bad debt adjustment": 6,
    }


def test_the_log_holds_what_an_independent_count_of_the_raw_files_finds(imported: Imported) -> None:
    code = pl.col("StockCode").str.strip_chars().str.to_uppercase()
    raw = pl.concat([pl.read_parquet(EARLIER), pl.read_parquet(LATER)]).with_columns(code)
    sales = raw.filter(
        pl.col("CustomerID").is_not_null(),
        pl.col("Quantity") > 0,
        pl.col("UnitPrice") > 0,
        ~pl.col("InvoiceNo").str.contains("^[CA]"),
        pl.col("StockCode").str.contains(r"^(\d{5}[A-Z]{0,2}|DCGS\w+|PADS|SP1002)$"),
        ~pl.col("StockCode").is_in(["23444", "23702"]),
    ).unique(["InvoiceNo", "StockCode", "Quantity", "CustomerID"], keep="first", maintain_order=True)
    rows = imported[1].read().collect()
    assert rows.height == sales.height == 776_506
    assert rows.get_column("user_id").n_unique() == sales.get_column("CustomerID").n_unique()
    assert rows.get_column("item_id").n_unique() == sales.get_column("StockCode").n_unique()
    assert rows.get_column("quantity").sum() == sales.get_column("Quantity").sum()
    assert rows.select(pl.col("price").dot("quantity")).item() == pytest.approx(
        sales.select((pl.col("UnitPrice") * pl.col("Quantity")).sum()).item()
    )
    assert rows.get_column("event_id").n_unique() == rows.height


def test_every_product_sold_has_a_title_and_a_price(imported: Imported) -> None:
    items = {item.item_id: item for item in imported[1].items()}
    assert set(items) == set(imported[1].read().select("item_id").unique().collect().to_series())
    assert all(item.title and item.price for item in items.values())
    assert items["85123A"].title == "CREAM HANGING HEART T-LIGHT HOLDER"


def counts_of(paths: Sequence[Path], folder: Path) -> tuple[int, int]:
    """How many rows of `paths`, imported in this order, are new, and how many an earlier file had."""
    log = DeltaInteractionLog(str(folder / "log"))
    settings = IngestSettings(rejected=folder / "rejected")
    counts = import_files(list(paths), read_mapping(DATA / "online_retail.yaml"), log, settings).counts
    return counts.accepted, counts.known


def test_the_other_order_of_the_files_counts_the_same(tmp_path: Path) -> None:
    """Of the days that both files have, and a few that only the later one has."""
    paths = [tmp_path / "earlier.parquet", tmp_path / "later.parquet"]
    pl.read_parquet(EARLIER).tail(25_000).write_parquet(paths[0])
    pl.read_parquet(LATER).head(30_000).write_parquet(paths[1])
    accepted, known = counts_of(paths, tmp_path / "one")
    assert (accepted, known) == counts_of(paths[::-1], tmp_path / "other")
    assert known > 10_000


@pytest.mark.slow
def test_so_does_the_other_order_of_all_of_it(imported: Imported, tmp_path: Path) -> None:
    counts = imported[0].counts
    assert counts_of([LATER, EARLIER], tmp_path) == (counts.accepted, counts.known)


def test_the_report_reads_well_on_a_narrow_terminal(imported: Imported) -> None:
    console = Console(width=90, file=StringIO())
    with console.capture() as capture:
        console.print(render(imported[0]))
    text = capture.get()
    for said in ("2010-12-10 to 2011-12-09", "4,261 users, 3,620 items, 25,900 invoices", "cancellation", "776,506"):
        assert said in text
