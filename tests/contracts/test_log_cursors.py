"""The cursor of a source stands in the commit of its rows, on every backend of the log."""

import threading
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import Conflict, InvalidInput
from recsys.settings import LogSettings
from recsys.stores.event_log import INTERACTION_SCHEMA, InteractionLog, open_interaction_log
from recsys.stores.event_log.cursors import (
    MAX_CURSOR_BYTES,
    Cursor,
    CursorMove,
    SourcePosition,
    encode_cursor,
    pack_cursor,
    unpack_cursor,
)
from recsys.stores.event_log.delta import DeltaInteractionLog

SHOP = "import:shop"
NOTHING = pl.DataFrame(schema=INTERACTION_SCHEMA)
CURSORS: list[Cursor] = [
    7,
    "2026-11-28T16:00:00Z",
    ["2026-11-28T16:00:00.123456Z", "order-00017"],
    {"key": "events/2026/11/28.csv.gz", "row": 50_000, "etag": None},
    "Ж" * 1000,
    0.5,
    "",
]
json_values = st.recursive(
    st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["memory", "delta"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> InteractionLog:
    return open_interaction_log(LogSettings(backend=request.param, path=str(tmp_path / "log")))


def move(log: InteractionLog, last: int, cursor: Cursor, partition: str = SHOP) -> bool:
    """Append a batch without rows that goes on from where the log is."""
    since = log.source_position(partition).watermark
    return log.append(NOTHING, {partition: last}, {partition: CursorMove(since, cursor)})


def test_a_source_of_which_nothing_was_read_has_no_position(log: InteractionLog) -> None:
    assert log.source_position(SHOP) == SourcePosition(-1, None)
    move(log, 3, "x", "import:other")
    assert log.source_position(SHOP) == SourcePosition(-1, None)


def test_each_batch_leaves_its_own_cursor_whatever_the_last_one_was(log: InteractionLog) -> None:
    for last, cursor in enumerate(CURSORS):
        assert move(log, last, cursor)
        assert log.source_position(SHOP) == SourcePosition(last, cursor)


def test_a_partition_without_a_cursor_has_a_watermark_alone(log: InteractionLog) -> None:
    log.append(NOTHING, {"p-0": 4})
    assert log.source_position("p-0") == SourcePosition(4, None)


def test_a_batch_that_does_not_go_on_where_the_log_is_is_refused(log: InteractionLog) -> None:
    move(log, 9, "a")
    for since in (-1, 4, 10):
        with pytest.raises(Conflict, match="another process has moved import:shop on"):
            log.append(NOTHING, {SHOP: 19}, {SHOP: CursorMove(since, "b")})
    assert log.source_position(SHOP) == SourcePosition(9, "a")


@pytest.mark.parametrize("cursor", ["x" * MAX_CURSOR_BYTES, float("nan"), None, (1, 2), {1: 2}, b"bytes", object()])
def test_an_unfit_cursor_is_refused_and_nothing_is_written(log: InteractionLog, cursor: Cursor) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        move(log, 0, cursor)
    assert log.source_position(SHOP) == SourcePosition(-1, None)


def test_a_cursor_without_a_watermark_is_refused(log: InteractionLog) -> None:
    with pytest.raises(InvalidInput, match="has a cursor and no watermark"):
        log.append(NOTHING, {"p-0": 0}, {SHOP: CursorMove(-1, "a")})


def test_cursors_outlive_tidying_and_the_clean_up_of_old_commits(tmp_path: Path) -> None:
    log = DeltaInteractionLog(str(tmp_path))
    for last, cursor in enumerate(CURSORS):
        move(log, last, cursor)
        move(log, last, last, "import:other")
    table = DeltaTable(str(tmp_path / "interactions"))
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    log.compact()
    log.vacuum(0.0)
    table = DeltaTable(str(tmp_path / "interactions"))
    table.create_checkpoint()
    table.cleanup_metadata()
    assert log.source_position(SHOP) == SourcePosition(len(CURSORS) - 1, CURSORS[-1])
    assert log.source_position("import:other") == SourcePosition(len(CURSORS) - 1, len(CURSORS) - 1)


def test_sources_that_are_read_at_once_do_not_stand_in_each_others_way(log: InteractionLog) -> None:
    def run(partition: str) -> None:
        for last in range(8):
            for _ in range(20):
                try:
                    move(log, last, [partition, last], partition)
                    break
                except Conflict:
                    assert log.source_position(partition).watermark < last

    threads = [threading.Thread(target=run, args=(f"import:{name}",)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [log.source_position(f"import:{name}").cursor for name in "abc"] == [[f"import:{name}", 7] for name in "abc"]


@given(json_values)
def test_a_packed_cursor_is_unpacked_as_it_was(cursor: Cursor) -> None:
    length, *numbers = pack_cursor(cursor)
    assert length == len(encode_cursor(cursor))
    assert all(0 <= number < 2**56 for number in numbers)
    assert unpack_cursor(length, numbers) == cursor
