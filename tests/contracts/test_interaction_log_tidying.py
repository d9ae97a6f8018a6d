"""Tidying the interaction log, on every backend: what is erased goes for good, and nobody who reads notices."""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable

from recsys.errors import Conflict, InvalidInput, NotFound
from recsys.settings import LogSettings
from recsys.stores.event_log import InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.event_log.delta import DeltaInteractionLog
from recsys.stores.event_log.rows import MAX_DATES
from recsys.users import PositionedMessage
from tests.contracts.test_interaction_log import START, bought, forget, merge, offsets_in

DAY = timedelta(days=1)


@pytest.fixture(params=["memory", "delta"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> InteractionLog:
    return open_interaction_log(LogSettings(backend=request.param, path=str(tmp_path / "log")))


@pytest.fixture
def delta(tmp_path: Path) -> DeltaInteractionLog:
    return DeltaInteractionLog(str(tmp_path / "log"))


def append(log: InteractionLog, records: Sequence[PositionedMessage]) -> None:
    log.append(interaction_rows(records), {"p-0": max(record.offset for record in records)})


def written(log: InteractionLog) -> set[str]:
    """Users in the rows as they are stored."""
    assert isinstance(log, DeltaInteractionLog)
    return set(pl.scan_delta(log._interactions).collect().get_column("user_id"))


def files_with(path: Path, text: str) -> list[str]:
    return [one.name for one in path.rglob("*") if one.is_file() and text.encode() in one.read_bytes()]


def departed(log: InteractionLog) -> None:
    """Of three users one is erased, one merges into another and one of the erased comes back."""
    users = ["ada", "bob", "anon"]
    for first in range(0, 12, 4):
        append(log, [bought(offset, users[offset % 3]) for offset in range(first, first + 4)])
    log.merge([merge("anon", "bob", "p-0", 12, START + DAY)])
    log.erase([forget("ada", "p-0", 13, START + DAY)])
    append(log, [bought(14, "ada"), bought(15, "anon"), bought(16, "bob")])


def test_a_purge_changes_nothing_that_is_read_in_any_version(log: InteractionLog) -> None:
    departed(log)
    versions = range(log.version() + 1)
    before = [log.read(version).collect().rows() for version in versions]
    places = sorted(log.snapshot().places.collect().rows())
    plan = log.purge_plan()
    assert log.purge(plan) == plan.changes.height == 8
    assert [log.read(version).collect().rows() for version in versions] == before
    assert sorted(log.snapshot().places.collect().rows()) == places
    assert log.purge(log.purge_plan()) == 0


def test_a_purge_says_how_many_rows_each_erasure_takes(log: InteractionLog) -> None:
    departed(log)
    log.erase([forget("nobody", "p-0", 15, START)])
    plan = log.purge_plan()
    assert sorted(plan.erased.select("event_id", "rows").rows()) == [("erase-ada-13", 4), ("erase-nobody-15", 0)]
    assert plan.moved == 4


def test_an_erasure_whose_rows_are_yet_to_come_waits(log: InteractionLog) -> None:
    append(log, [bought(0, "ada")])
    log.erase([forget("ada", "p-0", 9, START)])
    assert log.purge_plan().erased.is_empty()
    assert log.snapshot().identity_changes.is_empty()


def test_what_a_purge_moved_is_erased_with_its_new_user_and_not_with_the_old_one(log: InteractionLog) -> None:
    departed(log)
    log.purge(log.purge_plan())
    log.erase([forget("anon", "p-0", 17, START + 2 * DAY)])
    append(log, [bought(18, "carl")])
    assert set(log.read().collect().get_column("user_id")) == {"ada", "bob", "carl"}
    log.erase([forget("bob", "p-0", 19, START + 3 * DAY)])
    append(log, [bought(20, "carl")])
    log.purge(log.purge_plan())
    assert [offset for _, offset in offsets_in(log)] == [14, 18, 20]


def test_an_erasure_from_before_the_merge_does_not_take_what_the_merge_brought(log: InteractionLog) -> None:
    append(log, [bought(0, "anon"), bought(1, "ada")])
    log.merge([merge("anon", "ada", "p-0", 2, START + 2 * DAY)])
    append(log, [bought(3, "carl")])
    log.purge(log.purge_plan())
    log.erase([forget("ada", "p-1", 0, START + DAY)])
    assert [offset for _, offset in offsets_in(log)] == [0, 3]


def test_an_erased_user_leaves_every_file(delta: DeltaInteractionLog, tmp_path: Path) -> None:
    for offset in range(3):
        append(delta, [bought(offset, "Ada-Lovelace"), bought(offset, "bob")])
    delta.erase([forget("Ada-Lovelace", "p-0", 3, START + DAY)])
    append(delta, [bought(4, "bob")])
    tables = tmp_path / "log" / "interactions"
    assert files_with(tables, "Ada-Lovelace")
    delta.purge(delta.purge_plan())
    assert written(delta) == {"bob"}
    assert files_with(tables, "Ada-Lovelace")
    delta.vacuum(0)
    assert files_with(tables, "Ada-Lovelace") == []


def test_within_the_retention_every_version_stays_readable(delta: DeltaInteractionLog) -> None:
    departed(delta)
    delta.purge(delta.purge_plan())
    delta.compact()
    assert delta.vacuum(3600).files == 0
    assert delta.size().oldest_version == 0
    assert [offset for _, offset in offsets_in(delta, 1)] == [1, 2]


def test_a_version_that_is_no_longer_whole_is_refused_and_newer_ones_are_read(delta: DeltaInteractionLog) -> None:
    departed(delta)
    then = delta.version()
    delta.purge(delta.purge_plan())
    delta.compact()
    kept = delta.version()
    before = delta.read().collect()
    assert delta.vacuum(0).files > 0
    assert delta.size().oldest_version == kept
    for gone in (0, then):
        with pytest.raises(InvalidInput, match=f"the oldest that can be read is {kept}"):
            delta.read(gone)
    with pytest.raises(NotFound):
        delta.read(delta.version() + 1)
    for version in range(kept, delta.version() + 1):
        assert delta.read(version).collect().equals(before)
    assert delta.vacuum(0).files == 0, "they are gone already"


def test_a_vacuum_leaves_what_is_being_written_and_takes_what_was_abandoned(
    delta: DeltaInteractionLog, tmp_path: Path
) -> None:
    append(delta, [bought(0)])
    unfinished = tmp_path / "log" / "interactions" / "date=2026-01-31" / "part-unfinished.parquet"
    unfinished.write_bytes(b"half a file")
    delta.vacuum(0)
    delta.vacuum(3600)
    assert unfinished.exists()
    hours_ago = unfinished.stat().st_mtime - 7200
    os.utime(unfinished, (hours_ago, hours_ago))
    assert delta.vacuum(3600).files == 1
    assert not unfinished.exists()
    version = delta.version()
    assert delta.vacuum(3600).files == 0
    assert delta.version() == version
    assert [offset for _, offset in offsets_in(delta, 1)] == [0]


def test_purging_beside_writers_loses_nothing(delta: DeltaInteractionLog) -> None:
    departed(delta)
    rows = [bought(offset, "carl", "p-1") for offset in range(15)]

    def append_slowly() -> None:
        for row in rows:
            while delta.watermark("p-1") < row.offset:
                with suppress(Conflict):
                    delta.append(interaction_rows([row]), {"p-1": row.offset})

    writer = Thread(target=append_slowly)
    writer.start()
    deleted = delta.purge(delta.purge_plan())
    writer.join()
    assert deleted == 8
    assert [offset for partition, offset in offsets_in(delta) if partition == "p-1"] == list(range(15))
    assert written(delta) == {"ada", "anon", "bob", "carl"}


def test_a_log_from_before_rows_could_be_moved_is_purged_too(delta: DeltaInteractionLog) -> None:
    departed(delta)
    table = DeltaTable(delta._interactions)
    old = pl.scan_delta(table).drop("since").collect()
    old.write_delta(
        delta._interactions, mode="overwrite", delta_write_options={"schema_mode": "overwrite", "partition_by": "date"}
    )
    before = delta.read().collect()
    assert delta.purge(delta.purge_plan()) == 8
    assert delta.read().collect().equals(before)


@pytest.mark.parametrize(("days", "files"), [(MAX_DATES, MAX_DATES), (1000, 34), (9000, 25)])
def test_a_batch_leaves_few_files_however_far_its_events_lie_apart(
    delta: DeltaInteractionLog, days: int, files: int
) -> None:
    start = datetime(2000, 1, 1, tzinfo=UTC)
    records = [bought(day, at=start + timedelta(days=day)) for day in range(days)]
    append(delta, records)
    assert delta.size().files <= min(files, MAX_DATES)
    assert delta.read().collect().get_column("date").to_list() == [(start + day * DAY).date() for day in range(days)]


def test_an_event_that_is_kept_under_its_month_is_counted_once(log: InteractionLog) -> None:
    start = datetime(2020, 1, 10, tzinfo=UTC)
    records = [bought(day, at=start + day * DAY) for day in range(2 * MAX_DATES)]
    append(log, records)
    append(log, [PositionedMessage("p-0", 900, records[5].message), PositionedMessage("p-0", 901, records[60].message)])
    assert log.read().collect().height == 2 * MAX_DATES


def test_repeats_leave_the_files_with_the_next_purge_and_nothing_that_is_read_changes(log: InteractionLog) -> None:
    records = [bought(day, at=START + day * DAY) for day in range(5)]
    retries = [
        PositionedMessage("p-0", 10 + n, msgspec.structs.replace(one.message, occurred_at=START + 40 * DAY + n * DAY))
        for n, one in enumerate(records[:3])
    ]
    append(log, records)
    append(log, retries)
    append(log, [PositionedMessage("p-0", 20, records[4].message), bought(21, at=START)])
    rows, old = log.read().collect(), log.read(log.version() - 2).collect()
    places = log.snapshot().places.collect().sort("user_id", "partition")
    version, plan = log.version() - 2, log.purge_plan()
    assert (plan.repeats, plan.moved, plan.erased.height) == (4, 0, 0)
    assert log.purge(plan) == 4
    assert log.read().collect().equals(rows)
    assert log.read(version).collect().equals(old)
    assert log.snapshot().places.collect().sort("user_id", "partition").equals(places)
    assert log.events().collect().height == log.size().rows == rows.height == 6
    assert log.purge(log.purge_plan()) == 0


def test_a_repeat_by_an_earlier_time_stays_while_it_says_how_far_its_user_came(log: InteractionLog) -> None:
    earlier = msgspec.structs.replace(bought(0).message, occurred_at=START - DAY)
    append(log, [bought(0), PositionedMessage("p-0", 1, earlier)])
    assert log.purge_plan().repeats == 0
    assert log.read().collect().get_column("offset").to_list() == [0]
    append(log, [bought(2)])
    assert log.purge(log.purge_plan()) == 1
    assert log.read().collect().get_column("offset").to_list() == [0, 2]


def test_a_repeat_that_a_merge_brought_to_another_user_leaves_too(log: InteractionLog) -> None:
    theirs = msgspec.structs.replace(bought(0).message, user_id="anon")
    log.append(interaction_rows([bought(0), bought(2)]), {"p-0": 2})
    log.append(interaction_rows([PositionedMessage("p-1", 0, theirs), bought(1, "anon", "p-1")]), {"p-1": 2})
    log.merge([merge("anon", "ada", "p-1", 2, START + 9 * DAY)])
    rows = log.read().collect()
    plan = log.purge_plan()
    assert (plan.repeats, plan.moved) == (1, 2)
    assert log.purge(plan) == 3
    assert log.read().collect().drop("date").equals(rows.drop("date"))


def test_watermarks_and_versions_are_told_as_they_were(log: InteractionLog) -> None:
    assert log.version_at(datetime.now(UTC)) == -1
    assert log.watermarks() == {}
    append(log, [bought(3)])
    first, between = log.version(), datetime.now(UTC) + timedelta(milliseconds=2)
    while datetime.now(UTC) < between + timedelta(milliseconds=2):
        pass
    log.append(interaction_rows([bought(7, partition="import:a")]), {"import:a": 7})
    assert log.version_at(between) == first
    assert log.version_at(datetime.now(UTC) + DAY) == log.version()
    assert log.version_at(START) == -1
    assert log.watermarks(first) == {"p-0": 3}
    assert log.watermarks() == {"p-0": 3, "import:a": 7}
