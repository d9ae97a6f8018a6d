"""An import that was stopped goes on where its last commit was; the same file twice changes nothing."""

import shutil
from pathlib import Path

import pytest

from ingest.batch.file_import import Progress, import_files
from recsys.errors import Conflict
from recsys.messages.interaction import Interaction
from recsys.stores.event_log import interaction_rows
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.users import PositionedMessage
from tests.ingest.shop import ROWS, SHOP_MAPPING, SHOP_ROWS, Shop, delta_shop, shop_frame


def test_a_resumed_import_may_cut_its_batches_differently(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    whole = Shop(tmp_path / "whole", MemoryInteractionLog(), import_rows=600)
    expected = whole.outcome(whole.load(path))

    class Interruption(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.rows >= 350:
            raise Interruption

    torn = delta_shop(tmp_path / "torn")
    with pytest.raises(Interruption):
        import_files([path], SHOP_MAPPING, torn.log, torn.settings, stop)
    torn.import_rows = 33
    assert torn.outcome(torn.load(path)) == expected


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
