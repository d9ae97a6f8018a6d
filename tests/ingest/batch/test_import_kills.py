"""Wherever an import is killed, its rows, its cursor and its report end up like those of one that never was."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import checkpoint
from ingest.batch.checkpoint import ImportFolder
from recsys.stores.event_log.delta import DeltaInteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from tests.ingest.shop import ROWS, Shop, delta_shop, shop_frame

STEPS = {
    "the items of a batch": (DeltaInteractionLog, "append_items"),
    "the files of a batch": (ImportFolder, "write"),
    "a file": (checkpoint, "write_whole"),
    "the commit": (DeltaInteractionLog, "append"),
    "the mark behind the commit": (ImportFolder, "confirm"),
    "the report": (ImportFolder, "finish"),
    "the compaction": (DeltaInteractionLog, "compact"),
}


def kill_at(step: str, call: int, moment: str) -> None:
    """Let this process be killed, as the kernel would, right before or right behind a call of a step."""
    owner, name = STEPS[step]
    original = getattr(owner, name)
    calls = 0

    def step_or_die(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, step_or_die)


def import_until_killed(folder: Path, path: Path, step: str, call: int, moment: str) -> None:
    kill_at(step, call, moment)
    delta_shop(folder).load(path)
    sys.exit("was not killed")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    shop = delta_shop(tmp_path_factory.mktemp("uninterrupted"))
    return shop.outcome(shop.load(shop.file("shop.csv", shop_frame(ROWS).write_csv())))


@pytest.mark.parametrize(
    ("step", "call", "moment", "committed"),
    [
        ("the items of a batch", 1, "behind", 0),
        ("the files of a batch", 5, "before", 4),
        ("a file", 9, "behind", 4),
        ("the commit", 1, "behind", 1),
        ("the commit", 5, "behind", 5),
        ("the mark behind the commit", 12, "before", 12),
        ("a file", 25, "behind", 12),
        ("the compaction", 1, "before", 12),
    ],
)
def test_a_killed_import_ends_like_one_that_was_never_interrupted(
    step: str, call: int, moment: str, committed: int, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    torn = delta_shop(tmp_path / "torn")
    spawn = multiprocessing.get_context("spawn")
    victim = spawn.Process(target=import_until_killed, args=(torn.folder, path, step, call, moment))
    victim.start()
    victim.join(timeout=60)
    assert victim.exitcode == -signal.SIGKILL
    position = torn.log.source_position(uninterrupted["rows"][0]["partition"])
    assert (position.watermark, position.cursor) == (50 * committed - 1, 50 * committed or None)

    report = torn.load(path)
    assert torn.outcome(report) == uninterrupted
    assert report.already_imported == (committed == 12)
    assert [entry.name for entry in Path(str(report.rejected_rows)).parent.iterdir() if entry.is_dir()] == []


class Kill(BaseException):
    """Passes through everything, as a kill would."""


@contextmanager
def killed_at(step: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise `Kill` at the step of that number, counted over all calls that leave something behind."""
    left = step

    def wrapped(original: Any) -> Any:
        def step_or_die(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Kill
            result = original(*args, **kwargs)
            left -= 1
            if left == 0:
                raise Kill
            return result

        return step_or_die

    with patch.context() as within:
        targets: list[tuple[Any, str]] = [
            (MemoryInteractionLog, "append_items"),
            (MemoryInteractionLog, "append"),
            (ImportFolder, "confirm"),
            (checkpoint, "write_whole"),
        ]
        for owner, name in targets:
            within.setattr(owner, name, wrapped(getattr(owner, name)))
        yield


@settings(deadline=None)
@given(kills=st.lists(st.tuples(st.integers(1, 60), st.integers(20, 90)), max_size=6), last=st.integers(20, 90))
def test_an_import_killed_any_number_of_times_counts_each_row_once(kills: list[tuple[int, int]], last: int) -> None:
    patch = pytest.MonkeyPatch()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shop.csv"
        path.write_text(shop_frame(ROWS).write_csv())
        whole = Shop(Path(folder) / "whole", MemoryInteractionLog(), import_rows=len(ROWS))
        expected = whole.outcome(whole.load(path))

        torn = Shop(Path(folder) / "torn", MemoryInteractionLog())
        for step, torn.import_rows in kills:
            with killed_at(step, patch), suppress(Kill):
                torn.load(path)
        torn.import_rows = last
        assert torn.outcome(torn.load(path)) == expected


def test_counts_of_a_batch_that_another_process_committed_are_not_believed(tmp_path: Path) -> None:
    """Its rows may have been others: a table is read twice, and a customer changed in between."""
    path = tmp_path / "shop.csv"
    path.write_text(shop_frame(ROWS).write_csv())
    torn = Shop(tmp_path / "torn", MemoryInteractionLog(), import_rows=50)
    patch = pytest.MonkeyPatch()
    with killed_at(4 * 2 + 1 + 8, patch), pytest.raises(Kill):
        torn.load(path)
    pending = [*torn.folder.rglob("*.pending")]
    assert [file.name for file in pending] == ["000000000000099.pending"]
    elsewhere = Shop(tmp_path / "elsewhere", torn.log, import_rows=30)
    elsewhere.load(path)

    report = torn.load(path)
    assert (report.counts.rows, report.unreported) == (50, len(ROWS) - 50)
    assert report.counts.accepted + report.counts.merged + sum(report.counts.rejected.values()) == 50
