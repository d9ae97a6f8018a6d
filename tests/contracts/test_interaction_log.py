"""The contract of the interaction log, on every backend."""

import multiprocessing
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from recsys.errors import Conflict, InvalidInput, LogUnavailable, NotFound
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.settings import LogSettings
from recsys.stores.event_log import READ_SCHEMA, InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.event_log.delta import DeltaInteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.users import PositionedMessage

START = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


@pytest.fixture(params=["memory", "delta"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> InteractionLog:
    return open_interaction_log(LogSettings(backend=request.param, path=str(tmp_path / "log")))


def bought(offset: int, user: str = "ada", partition: str = "p-0", at: datetime | None = None) -> PositionedMessage:
    interaction = Interaction(
        event_id=f"{partition}/{offset}",
        user_id=user,
        item_id=f"item-{offset % 7}",
        type="purchase",
        occurred_at=at or START + timedelta(minutes=10 * offset),
        quantity=2.0,
        price=1.5 if offset % 2 else None,
    )
    return PositionedMessage(partition, offset, interaction)


def forget(user: str, partition: str, offset: int, at: datetime) -> PositionedMessage:
    return PositionedMessage(
        partition, offset, Erasure(event_id=f"erase-{user}-{offset}", user_id=user, occurred_at=at)
    )


def merge(user: str, into: str, partition: str, offset: int, at: datetime) -> PositionedMessage:
    message = Merge(event_id=f"merge-{user}-{offset}", user_id=user, into=into, occurred_at=at)
    return PositionedMessage(partition, offset, message)


def batch(*offsets: int, partition: str = "p-0") -> pl.DataFrame:
    return interaction_rows([bought(offset, partition=partition) for offset in offsets])


def offsets_in(log: InteractionLog, version: int | None = None) -> list[tuple[str, int]]:
    return sorted(log.read(version).select("partition", "offset").collect().rows())


def test_a_log_nobody_wrote_to_is_empty_and_readable(log: InteractionLog) -> None:
    assert log.version() == -1
    assert log.watermark("p-0") == -1
    assert log.items() == []
    assert log.read().collect_schema() == pl.Schema(READ_SCHEMA)
    assert log.read().collect().is_empty()


def test_what_was_appended_is_read_back_whole(log: InteractionLog) -> None:
    rows = batch(0, 1, 2, 3)
    assert log.append(rows, {"p-0": 3})
    assert log.read().drop("since").sort("offset").collect().equals(rows)
    assert rows.get_column("date").to_list() == [date(2026, 1, 31)] * 3 + [date(2026, 2, 1)]


def test_what_a_producer_said_beyond_the_schema_is_kept_as_json(log: InteractionLog) -> None:
    said = msgspec.structs.replace(bought(0).message, extra={"page": "/lamps", "list": [1, None, {"a": 0.5}]})
    log.append(interaction_rows([PositionedMessage("p-0", 0, said), bought(1)]), {"p-0": 1})
    extras = log.read().sort("offset").collect()["extra"].to_list()
    assert extras == ['{"page":"/lamps","list":[1,null,{"a":0.5}]}', None]


def test_a_table_from_before_a_column_was_added_is_read_and_goes_on(tmp_path: Path) -> None:
    old = batch(0, 1).drop("extra")
    write_deltalake(tmp_path / "interactions", old, partition_by=["date"])
    log = DeltaInteractionLog(str(tmp_path))
    assert log.read().collect().height == 2
    said = msgspec.structs.replace(bought(2).message, extra={"page": "/"})
    log.append(interaction_rows([PositionedMessage("p-0", 2, said)]), {"p-0": 2})
    log.compact()
    assert log.read().sort("offset").collect()["extra"].to_list() == [None, None, '{"page":"/"}']
    assert log.read(0).collect().height == 2


def test_a_redelivered_batch_changes_nothing(log: InteractionLog) -> None:
    assert log.append(batch(0, 1, 2), {"p-0": 2})
    version = log.version()
    assert not log.append(batch(0, 1, 2), {"p-0": 2})
    assert not log.append(batch(1), {"p-0": 1})
    assert log.version() == version
    assert offsets_in(log) == [("p-0", 0), ("p-0", 1), ("p-0", 2)]


def test_a_partly_redelivered_batch_adds_only_what_is_new(log: InteractionLog) -> None:
    log.append(batch(0, 1, 2), {"p-0": 2})
    assert log.append(batch(1, 2, 3, 5), {"p-0": 5})
    assert [offset for _, offset in offsets_in(log)] == [0, 1, 2, 3, 5]
    assert log.watermark("p-0") == 5


def test_one_batch_moves_several_partitions_each_on_its_own(log: InteractionLog) -> None:
    log.append(batch(0, 1), {"p-0": 1})
    both = pl.concat([batch(1, 2), batch(1, 7, partition="p-1")])
    assert log.append(both, {"p-0": 2, "p-1": 7})
    assert offsets_in(log) == [("p-0", 0), ("p-0", 1), ("p-0", 2), ("p-1", 1), ("p-1", 7)]
    assert (log.watermark("p-0"), log.watermark("p-1"), log.watermark("p-2")) == (2, 7, -1)


def test_a_batch_of_refused_records_still_moves_the_watermark(log: InteractionLog) -> None:
    assert log.append(batch(), {"p-0": 9})
    assert log.watermark("p-0") == 9
    assert not log.append(batch(), {"p-0": 9})
    assert log.append(batch(10), {"p-0": 12})
    assert offsets_in(log) == [("p-0", 10)]


def test_an_event_that_its_producer_sent_twice_is_read_once(log: InteractionLog) -> None:
    first, other = bought(0), bought(0, user="bob")
    again = PositionedMessage("p-0", 3, first.message)
    imported = PositionedMessage("p-1", 9, first.message)
    log.append(interaction_rows([PositionedMessage("p-0", 1, other.message), again]), {"p-0": 3})
    log.append(interaction_rows([PositionedMessage("p-0", 4, first.message), imported]), {"p-0": 4, "p-1": 9})
    assert offsets_in(log) == [("p-0", 1), ("p-1", 9)]


def test_an_event_that_its_producer_sent_again_on_a_later_day_is_read_once_by_its_latest_telling(
    log: InteractionLog,
) -> None:
    first, version, days = bought(0), -1, [START + timedelta(days=n) for n in (0, 30, 3, 1)]
    tellings = [msgspec.structs.replace(first.message, occurred_at=at) for at in days]
    for offset, message in enumerate(tellings):
        log.append(interaction_rows([PositionedMessage("p-0", offset, message)]), {"p-0": offset})
        version = version if offset else log.version()
    somebody = PositionedMessage("p-0", 4, msgspec.structs.replace(first.message, user_id="bob"))
    log.append(interaction_rows([somebody]), {"p-0": 4})
    assert offsets_in(log) == [("p-0", 1), ("p-0", 4)]
    assert offsets_in(log, version) == [("p-0", 0)]
    assert log.events().collect().height == 5


def test_a_filter_on_what_was_read_finds_no_telling_that_does_not_count(log: InteractionLog) -> None:
    first = bought(0)
    later = msgspec.structs.replace(first.message, type="impression", occurred_at=START + timedelta(days=1))
    log.append(interaction_rows([first, PositionedMessage("p-0", 1, later)]), {"p-0": 1})
    assert log.read().filter(pl.col("type") != "impression").collect().is_empty()
    assert log.read().filter(pl.col("occurred_at") < START + timedelta(hours=1)).select("user_id").collect().is_empty()


def test_rows_are_read_by_partition_and_offset(log: InteractionLog) -> None:
    log.append(pl.concat([batch(5, 9, partition="p-1"), batch(3, 8)]), {"p-1": 9, "p-0": 8})
    log.append(batch(10, partition="p-0"), {"p-0": 10})
    rows = log.read().select("partition", "offset").collect().rows()
    assert rows == [("p-0", 3), ("p-0", 8), ("p-0", 10), ("p-1", 5), ("p-1", 9)]


def test_a_row_above_its_watermark_is_refused(log: InteractionLog) -> None:
    with pytest.raises(InvalidInput, match="p-0 has a row at 3"):
        log.append(batch(1, 3), {"p-0": 2})
    with pytest.raises(InvalidInput, match="p-1"):
        log.append(batch(1, partition="p-1"), {"p-0": 2})


def test_an_older_version_is_read_as_it_was(log: InteractionLog) -> None:
    log.append(batch(0, 1), {"p-0": 1})
    then = log.version()
    log.append(batch(2), {"p-0": 2})
    assert log.version() > then
    assert [offset for _, offset in offsets_in(log, then)] == [0, 1]
    assert [offset for _, offset in offsets_in(log)] == [0, 1, 2]


@pytest.mark.parametrize("version", [-1, 99])
def test_a_version_that_never_was_is_not_found(log: InteractionLog, version: int) -> None:
    log.append(batch(0), {"p-0": 0})
    with pytest.raises(NotFound):
        log.read(version)


def test_an_erasure_forgets_its_user_up_to_its_place_and_no_further(log: InteractionLog) -> None:
    records = [bought(offset, user) for offset, user in enumerate(["ada", "bob", "ada", "ada", "bob"])]
    log.append(interaction_rows(records), {"p-0": 4})
    log.erase([forget("ada", "p-0", 2, START)])
    assert [offset for _, offset in offsets_in(log)] == [1, 3, 4]


def test_an_erasure_reaches_other_partitions_by_time(log: InteractionLog) -> None:
    imported = [bought(offset, partition="import:a", at=START + timedelta(days=offset)) for offset in range(3)]
    log.append(interaction_rows([*imported, bought(0)]), {"import:a": 2, "p-0": 0})
    log.erase([forget("ada", "p-1", 0, START + timedelta(days=1))])
    assert offsets_in(log) == [("import:a", 2)]


def test_erasures_on_two_partitions_cover_each_other_by_time(log: InteractionLog) -> None:
    here = [bought(offset, at=START + timedelta(days=offset)) for offset in range(4)]
    log.append(interaction_rows(here), {"p-0": 3})
    log.erase([forget("ada", "p-0", 0, START), forget("ada", "p-1", 5, START + timedelta(days=1))])
    assert offsets_in(log) == [("p-0", 2), ("p-0", 3)]


def test_a_forgotten_user_stays_out_of_what_comes_late_and_of_every_older_version(log: InteractionLog) -> None:
    log.append(batch(0, 1), {"p-0": 1})
    version = log.version()
    log.erase([forget("ada", "p-0", 5, START)])
    log.append(batch(2, 6), {"p-0": 6})
    assert offsets_in(log, version) == []
    assert offsets_in(log) == [("p-0", 6)]


def test_erasing_twice_is_erasing_once(log: InteractionLog) -> None:
    log.append(batch(0, 1, 2), {"p-0": 2})
    erasure = forget("ada", "p-0", 1, START)
    log.erase([erasure, erasure])
    log.erase([erasure])
    log.erase([])
    assert offsets_in(log) == [("p-0", 2)]


def owners(log: InteractionLog) -> list[tuple[str, int, str]]:
    return sorted(log.read().select("partition", "offset", "user_id").collect().rows())


def test_a_merge_hands_over_what_came_before_it_and_nothing_after(log: InteractionLog) -> None:
    at = START + timedelta(days=1)
    log.merge([merge("anon", "ada", "p-0", 2, at)])
    log.append(interaction_rows([bought(0, "anon"), bought(1, "bob"), bought(3, "anon"), bought(4)]), {"p-0": 4})
    assert owners(log) == [("p-0", 0, "ada"), ("p-0", 1, "bob"), ("p-0", 3, "anon"), ("p-0", 4, "ada")]
    since = dict(log.read().select("offset", "since").collect().iter_rows())
    assert since == {0: at, 1: None, 3: None, 4: None}


def test_a_merge_reaches_other_partitions_by_time_and_old_versions_too(log: InteractionLog) -> None:
    imported = [bought(offset, "anon", "import:a", START + timedelta(days=offset)) for offset in range(3)]
    log.append(interaction_rows(imported), {"import:a": 2})
    then = log.version()
    log.merge([merge("anon", "ada", "p-1", 0, START + timedelta(days=1))])
    assert owners(log) == [("import:a", 0, "ada"), ("import:a", 1, "ada"), ("import:a", 2, "anon")]
    assert set(log.read(then).collect().get_column("user_id")) == {"ada", "anon"}


def test_merges_chain_in_the_order_of_time(log: InteractionLog) -> None:
    log.append(interaction_rows([bought(0, "a"), bought(2, "a")]), {"p-0": 3})
    log.merge([merge("b", "c", "p-1", 0, START + timedelta(days=2)), merge("a", "b", "p-0", 1, START)])
    log.merge([merge("a", "b", "p-0", 3, START + timedelta(days=3))])
    assert owners(log) == [("p-0", 0, "c"), ("p-0", 2, "b")]


def test_merges_in_a_circle_end(log: InteractionLog) -> None:
    log.append(interaction_rows([bought(0, "a")]), {"p-0": 0})
    log.merge([merge("a", "b", "p-0", 1, START), merge("b", "a", "p-1", 0, START)])
    log.merge([merge("b", "a", "p-1", 1, START + timedelta(days=1))])
    assert owners(log) == [("p-0", 0, "a")]


def test_an_erasure_after_a_merge_takes_what_came_with_it_and_one_of_the_id_that_ended_does_not(
    log: InteractionLog,
) -> None:
    log.append(interaction_rows([bought(0, "a1"), bought(0, "a2", "p-1"), bought(9, "ada")]), {"p-0": 9, "p-1": 0})
    log.merge([merge("a1", "ada", "p-0", 1, START), merge("a2", "ada", "p-1", 1, START + timedelta(days=2))])
    log.erase([forget("ada", "p-0", 20, START + timedelta(days=1)), forget("a2", "p-1", 2, START + timedelta(days=9))])
    assert owners(log) == [("p-1", 0, "ada")]


def test_an_event_that_both_sides_of_a_merge_have_counts_once(log: InteractionLog) -> None:
    same = bought(0).message
    assert isinstance(same, Interaction)
    theirs = msgspec.structs.replace(same, user_id="anon")
    log.append(
        interaction_rows([PositionedMessage("p-0", 0, same), PositionedMessage("p-1", 0, theirs)]), {"p-0": 0, "p-1": 0}
    )
    log.merge([merge("anon", "ada", "p-1", 1, START + timedelta(days=1))])
    assert owners(log) == [("p-1", 0, "ada")]


def test_merging_twice_is_merging_once(log: InteractionLog) -> None:
    once = merge("anon", "ada", "p-0", 1, START)
    log.merge([once, once])
    log.merge([once])
    log.merge([])
    log.append(interaction_rows([bought(0, "anon")]), {"p-0": 1})
    assert owners(log) == [("p-0", 0, "ada")]


def test_item_updates_merge_by_time_and_not_by_arrival(log: InteractionLog) -> None:
    later = START + timedelta(hours=1)
    log.append_items([Item(item_id="b", updated_at=later, title="New title")])
    log.append_items(
        [
            Item(item_id="b", updated_at=START, title="Old title", price=2.0, properties={"colour": "red"}),
            Item(item_id="a", updated_at=START, categories=["lamps"], available=False),
        ]
    )
    log.append_items([])
    assert log.items() == [
        Item(item_id="a", updated_at=START, categories=["lamps"], available=False),
        Item(item_id="b", updated_at=later, title="New title", price=2.0, properties={"colour": "red"}),
    ]


def test_compacting_changes_no_content_of_any_version(log: InteractionLog) -> None:
    for offset in range(6):
        log.append(batch(offset), {"p-0": offset})
        log.append_items([Item(item_id="a", updated_at=START + timedelta(hours=offset), price=float(offset))])
    log.erase([forget("ada", "p-0", 0, START)])
    log.merge([merge("bob", "ada", "p-0", 1, START)])
    versions = range(log.version() + 1)
    before = [offsets_in(log, version) for version in versions], log.items(), log.watermark("p-0")
    log.compact()
    assert ([offsets_in(log, version) for version in versions], log.items(), log.watermark("p-0")) == before
    assert log.append(batch(6), {"p-0": 6})
    assert [offset for _, offset in offsets_in(log)] == [1, 2, 3, 4, 5, 6]


def test_compacting_leaves_few_files(tmp_path: Path) -> None:
    log = DeltaInteractionLog(str(tmp_path))
    for offset in range(20):
        log.append(batch(offset), {"p-0": offset})
    log.compact()
    assert len(DeltaTable(str(tmp_path / "interactions")).file_uris()) == 2


def test_compacting_beside_a_writer_loses_nothing(tmp_path: Path) -> None:
    log = DeltaInteractionLog(str(tmp_path))
    writer = threading.Thread(target=append_one_by_one, args=(log, "p-0", 25))
    writer.start()
    while writer.is_alive():
        log.compact()
    writer.join()
    log.compact()
    assert offsets_in(log) == [("p-0", offset) for offset in range(25)]


def race(log: InteractionLog, partitions: list[str], repeats: int) -> None:
    """One writer per entry, each appending offsets 0..repeats-1 one by one, trying again when it lost."""
    barrier = threading.Barrier(len(partitions))
    failures: list[BaseException] = []

    def write(partition: str) -> None:
        try:
            barrier.wait(timeout=30)
            append_one_by_one(log, partition, repeats)
        except BaseException as error:  # noqa: BLE001  # a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(partition,)) for partition in partitions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []


def append_one_by_one(log: InteractionLog, partition: str, repeats: int) -> None:
    for offset in range(repeats):
        while log.watermark(partition) < offset:
            try:
                log.append(batch(offset, partition=partition), {partition: offset})
            except Conflict:
                continue


def test_writers_racing_on_one_partition_append_each_row_once(log: InteractionLog) -> None:
    race(log, ["p-0"] * 4, 8)
    assert offsets_in(log) == [("p-0", offset) for offset in range(8)]


def test_writers_racing_on_their_own_partitions_lose_nothing(log: InteractionLog) -> None:
    race(log, ["p-0", "p-1", "p-2", "p-3"], 8)
    assert offsets_in(log) == [(f"p-{number}", offset) for number in range(4) for offset in range(8)]


def write_from_another_process(path: str) -> None:
    append_one_by_one(DeltaInteractionLog(path), "p-0", 8)


def test_processes_racing_on_one_partition_append_each_row_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_from_another_process, args=(str(tmp_path),)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert offsets_in(DeltaInteractionLog(str(tmp_path))) == [("p-0", offset) for offset in range(8)]


def test_a_commit_between_reading_the_watermark_and_writing_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys.clients.delta import transaction
    from recsys.stores.event_log import delta

    log = DeltaInteractionLog(str(tmp_path))
    log.append(batch(0), {"p-0": 0})
    read_watermark = transaction

    def overtaken(table: DeltaTable, partition: str) -> int:
        stored = read_watermark(table, partition)
        monkeypatch.setattr(delta, "transaction", read_watermark)
        log.append(batch(1), {"p-0": 1})
        return stored

    monkeypatch.setattr(delta, "transaction", overtaken)
    with pytest.raises(Conflict):
        log.append(batch(1), {"p-0": 1})
    assert offsets_in(log) == [("p-0", 0), ("p-0", 1)]


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where a folder should be")
    with pytest.raises(LogUnavailable, match="interaction log"):
        DeltaInteractionLog(str(tmp_path / "log")).append(batch(0), {"p-0": 0})


def test_the_memory_log_is_the_delta_log_without_a_disk() -> None:
    assert isinstance(open_interaction_log(LogSettings(backend="memory")), MemoryInteractionLog)
