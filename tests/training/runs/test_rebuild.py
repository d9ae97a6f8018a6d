"""A version is made again, bit for bit, from what its manifest says; what cannot be is told."""

from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from recsys.errors import InvalidInput
from recsys.messages.interaction import Erasure
from recsys.messages.item import Item
from recsys.models.manifest import Manifest
from recsys.settings import LogSettings
from recsys.stores.event_log import InteractionLog, open_interaction_log
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.users import PositionedMessage
from tests.training.conftest import START, checkerboard
from training.provenance import FACTORS, snapshot_digest
from training.reports.report import rebuilt
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import TrainSettings


@pytest.fixture
def log(tmp_path: Path) -> InteractionLog:
    opened = open_interaction_log(LogSettings(path=str(tmp_path / "log")))
    opened.append(checkerboard().head(3200), {"test-0": 3199})
    words = ["tea cup", "garden gnome"]
    opened.append_items([Item(item_id=f"i{n}", updated_at=START, title=words[n % 2]) for n in range(44)])
    return opened


def settings_of(small: TrainSettings) -> TrainSettings:
    return small.model_copy(
        update={"cold_start": small.cold_start.model_copy(update={"min_items": 10}), "half_life_days": 30.0}
    )


def made(small: TrainSettings, log: InteractionLog, registry: MemoryModelRegistry) -> Manifest:
    return run(settings_of(small), log, registry, RunRequest(actor="ann", reason="weekly")).manifest


def test_like_a_version_has_its_factors_though_log_catalogue_and_settings_went_on(
    small: TrainSettings, log: InteractionLog
) -> None:
    registry = MemoryModelRegistry()
    first = made(small, log, registry)
    assert first.section["items"] == 44, "four cold items are among them"
    log.append(checkerboard().tail(800), {"test-0": 3999})
    log.append_items([Item(item_id="i1", updated_at=START + timedelta(days=1), title="something else")])
    other = small.model_copy(update={"seed": 1, "factors": 4, "threads": 2})
    result = run(other, log, registry, RunRequest(actor="bob", reason="audit", like=first))
    assert result.manifest.files[FACTORS] == first.files[FACTORS]
    assert result.manifest.files["user_factors.npy"] == first.files["user_factors.npy"]
    assert result.manifest.metrics == first.metrics
    assert result.rebuilt == (first.version, [])
    assert result.manifest.parameters["like"] == first.version
    assert "bit for bit" in rebuilt(*result.rebuilt)
    assert "bit for bit" in result.report.read_text()
    later = run(settings_of(small), log, registry, RunRequest(actor="ann", reason="weekly")).manifest
    assert later.files[FACTORS] != first.files[FACTORS]


def test_who_was_erased_since_does_not_come_back_and_it_says_so(small: TrainSettings, log: InteractionLog) -> None:
    registry = MemoryModelRegistry()
    first = made(small, log, registry)
    gone = Erasure(event_id="gone", user_id="u3", occurred_at=START + timedelta(days=200))
    log.erase([PositionedMessage("test-0", 3200, gone)])
    result = run(small, log, registry, RunRequest(actor="bob", reason="audit", like=first))
    assert result.manifest.provenance.data["interactions"] == 3200 - 80
    assert result.rebuilt is not None
    assert result.rebuilt[1][0] == f"{FACTORS} differs"
    assert {one.partition(" ")[0] for one in result.rebuilt[1][1:]} == {"data.digest", "data.interactions"}
    assert "the item factors differ" in rebuilt(*result.rebuilt)


def test_other_code_that_gives_the_same_factors_is_told_too(small: TrainSettings, log: InteractionLog) -> None:
    registry = MemoryModelRegistry()
    first = made(small, log, registry)
    older = msgspec.structs.replace(first, provenance=msgspec.structs.replace(first.provenance, code_version="0.0.9"))
    result = run(small, log, registry, RunRequest(actor="bob", reason="audit", like=older))
    assert result.rebuilt is not None
    assert [one.partition(",")[0] for one in result.rebuilt[1]] == ["code was '0.0.9'"]
    assert "same all the same" in rebuilt(*result.rebuilt)


def test_a_snapshot_that_is_no_longer_kept_is_told_by_name(small: TrainSettings, log: InteractionLog) -> None:
    registry = MemoryModelRegistry()
    first = made(small, log, registry)
    for n in range(3):
        log.append(checkerboard().slice(3200 + n, 1), {"test-0": 3200 + n})
    log.compact()
    log.vacuum(0.0)
    with pytest.raises(
        InvalidInput, match=rf"{first.version} .*version {first.section['log_version']} of the interaction log"
    ):
        run(small, log, registry, RunRequest(actor="bob", reason="audit", like=first))


def test_settings_of_another_release_are_refused(small: TrainSettings, log: InteractionLog) -> None:
    first = made(small, log, MemoryModelRegistry())
    other = first.parameters | {"training": first.parameters["training"] | {"layers": 3}}
    with pytest.raises(InvalidInput, match=r"another release.*[\s\S]*layers"):
        run(
            small,
            log,
            MemoryModelRegistry(),
            RunRequest(actor="b", reason="c", like=msgspec.structs.replace(first, parameters=other)),
        )


def test_the_digest_of_a_snapshot_tells_every_cell_and_the_order() -> None:
    rows = checkerboard().head(50)
    again = snapshot_digest(rows)
    assert snapshot_digest(rows.clone()) == again
    assert snapshot_digest(rows.reverse()) != again
    assert snapshot_digest(rows.with_columns(type=pl.lit("view"))) != again
    assert snapshot_digest(rows.head(49)) != again
    nothing = rows.with_columns(session_id=pl.lit(None, pl.String))
    assert snapshot_digest(nothing) != snapshot_digest(nothing.with_columns(session_id=pl.lit("")))
    assert np.unique([snapshot_digest(rows.shift(n)) for n in range(3)]).size == 3
