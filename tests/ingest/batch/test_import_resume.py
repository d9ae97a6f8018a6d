"""An import that is killed goes on where its last commit was; the same file twice changes nothing."""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest.batch.file_import import Progress, import_files
from recsys.errors import Conflict
from recsys.messages.interaction import Interaction
from recsys.stores.event_log import interaction_rows
from recsys.stores.event_log.delta import DeltaInteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.users import PositionedMessage
from tests.ingest.shop import SHOP_MAPPING, SHOP_ROWS, Shop, shop_frame

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


class KilledLog(DeltaInteractionLog):
    """Kills its process, as the kernel would, right before or right after one of its commits."""

    def __init__(self, path: str, commit: int, when: str) -> None:
        super().__init__(path)
        self._left = commit
        self._when = when

    def append(self, rows: pl.DataFrame, watermarks: Any) -> bool:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = super().append(rows, watermarks)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def import_until_killed(folder: Path, path: Path, commit: int, when: str) -> None:
    Shop(folder, KilledLog(str(folder / "log"), commit, when), import_rows=50).load(path)
    sys.exit("was not killed")


def delta_shop(folder: Path) -> Shop:
    folder.mkdir(exist_ok=True)
    return Shop(folder, DeltaInteractionLog(str(folder / "log")), import_rows=50)


def everything(shop: Shop, report: Any) -> dict[str, Any]:
    return {
        "rows": shop.rows().to_dicts(),
        "items": shop.log.items(),
        "counts": report.counts,
        "distinct": report.distinct,
        "rejected": shop.rejected(report),
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    shop = delta_shop(folder)
    return everything(shop, shop.load(shop.file("shop.csv", shop_frame(ROWS).write_csv())))


@pytest.mark.parametrize(("commit", "when"), [(1, "before"), (1, "after"), (5, "before"), (5, "after"), (12, "after")])
def test_a_killed_import_ends_like_one_that_was_never_interrupted(
    commit: int, when: str, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    torn = delta_shop(tmp_path / "torn")
    spawn = multiprocessing.get_context("spawn")
    victim = spawn.Process(target=import_until_killed, args=(torn.folder, path, commit, when))
    victim.start()
    victim.join(timeout=60)
    assert victim.exitcode == -signal.SIGKILL
    assert torn.log.watermark(uninterrupted["rows"][0]["partition"]) == 50 * (commit - (when == "before")) - 1

    report = torn.load(path)
    assert everything(torn, report) == uninterrupted
    assert report.already_imported == (commit == 12)
    assert report.unreported == 0
    assert [entry.name for entry in Path(str(report.rejected_rows)).parent.iterdir() if entry.is_dir()] == []


def test_a_resumed_import_may_cut_its_batches_differently(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    whole = Shop(tmp_path / "whole", MemoryInteractionLog(), import_rows=600)
    expected = everything(whole, whole.load(path))

    class Interruption(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.rows >= 350:
            raise Interruption

    torn = delta_shop(tmp_path / "torn")
    with pytest.raises(Interruption):
        import_files([path], SHOP_MAPPING, torn.log, torn.settings, stop)
    torn.import_rows = 33
    assert everything(torn, torn.load(path)) == expected


def test_importing_the_same_file_again_changes_nothing_and_says_so(shop: Shop) -> None:
    path = shop.file("shop.csv", shop_frame().write_csv())
    first = shop.load(path)
    version = shop.log.version()
    again = shop.load(path)
    assert again.already_imported
    assert not first.already_imported
    assert (again.counts, again.distinct) == (first.counts, first.distinct)
    assert shop.log.version() == version


def test_a_copy_under_another_name_is_the_same_file(shop: Shop) -> None:
    shop.load(shop.file("shop.csv", shop_frame().write_csv()))
    version = shop.log.version()
    report = shop.load(shop.file("copy.csv", shop_frame().write_csv()))
    assert report.already_imported
    assert shop.log.version() == version


def test_when_the_report_was_deleted_the_import_is_still_recognised(shop: Shop) -> None:
    path = shop.file("shop.csv", shop_frame().write_csv())
    shop.load(path)
    shutil.rmtree(shop.settings.rejected)
    version = shop.log.version()
    report = shop.load(path)
    assert (report.already_imported, report.counts.rows, report.unreported) == (True, 0, len(SHOP_ROWS))
    assert shop.log.version() == version


def test_when_the_log_was_deleted_everything_is_imported_anew(shop: Shop) -> None:
    path = shop.file("shop.csv", shop_frame().write_csv())
    first = shop.load(path)
    shop.log = MemoryInteractionLog()
    again = shop.load(path)
    assert not again.already_imported
    assert again.counts == first.counts


def test_two_imports_of_one_file_at_once_on_one_machine_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    one, other = delta_shop(tmp_path / "shop"), delta_shop(tmp_path / "shop")

    def interfere(progress: Progress) -> None:
        with pytest.raises(Conflict, match="another process"):
            other.load(path)

    [report] = import_files([path], SHOP_MAPPING, one.log, one.settings, interfere).files
    assert report.counts.rows == len(ROWS)
    assert other.load(path).already_imported


def test_two_imports_of_one_file_at_once_on_two_machines_import_it_once(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    alone = Shop(tmp_path, MemoryInteractionLog(), import_rows=50)
    expected = alone.load(path).counts.accepted
    one, other = delta_shop(tmp_path / "one"), delta_shop(tmp_path / "other")
    other.log = one.log

    def overtake(progress: Progress) -> None:
        if progress.rows == 100:
            other.load(path)

    with pytest.raises(Conflict, match="another process"):
        import_files([path], SHOP_MAPPING, one.log, one.settings, overtake)
    assert one.load(path).already_imported
    assert one.rows().height == expected == one.rows().select("user_id", "event_id").n_unique()


def test_rows_that_two_files_share_count_once(shop: Shop) -> None:
    shop.import_rows = 50
    first, second = shop_frame(ROWS[:400]), shop_frame(ROWS[300:])
    one = shop.load(shop.file("one.csv", first.write_csv()))
    two = shop.load(shop.file("two.jsonl", second.write_ndjson()))
    whole = Shop(shop.folder, MemoryInteractionLog(), import_rows=50)
    together = whole.load(shop.file("all.csv", shop_frame(ROWS).write_csv()))
    assert two.counts.known > 0
    assert one.counts.accepted + two.counts.accepted == together.counts.accepted
    assert shop.rows().select("user_id", "event_id").n_unique() == shop.rows().height


def test_what_came_over_the_topic_is_not_imported_again(shop: Shop) -> None:
    shop.load(shop.file("shop.csv", shop_frame().write_csv()))
    row = shop.rows().row(0, named=True)
    live = Shop(shop.folder, MemoryInteractionLog())
    content = {name: row[name] for name in ("event_id", "user_id", "item_id", "type", "occurred_at")}
    live.log.append(interaction_rows([PositionedMessage("p-0", 7, Interaction(**content))]), {"p-0": 7})
    counts = live.load(shop.file("again.csv", shop_frame().write_csv())).counts
    assert (counts.known, counts.repeats, counts.accepted) == (2, 0, 4)
