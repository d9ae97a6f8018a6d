"""The same factors from the same data; what is published is what serving would compute; nothing goes out unsaid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.errors import InvalidInput, NotEnoughData
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import START, checkerboard, log_of
from training.recommender import dataset
from training.recommender.algorithms import algorithm_names, open_algorithm
from training.recommender.dataset import confidence_matrix, confidence_parameters, histories, newest_per_user
from training.reports.report import render
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import TrainSettings

WHO: dict[str, Any] = {"actor": "test", "reason": "test"}


def silent(*_: object) -> None:
    return


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_the_number_of_threads_changes_no_factor(small: TrainSettings, algorithm: str) -> None:
    learned = confidence_matrix(checkerboard(), confidence_parameters(small, START))
    settings = small.model_copy(update={"algorithm": algorithm, "parameters": {"iterations": 5}})
    one, two = (open_algorithm(settings.model_copy(update={"threads": n})) for n in (1, 2))
    fitted = one.fit(learned.matrix, silent).item_factors
    np.testing.assert_array_equal(fitted, two.fit(learned.matrix, silent).item_factors)
    np.testing.assert_array_equal(one.user_factors(learned.matrix, fitted), two.user_factors(learned.matrix, fitted))


def test_als_gets_closer_to_the_data_with_every_pass(small: TrainSettings) -> None:
    passes: list[int] = []
    learned = confidence_matrix(checkerboard(), confidence_parameters(small, START))
    fitted = open_algorithm(small).fit(learned.matrix, lambda done, _total: passes.append(done))
    assert passes == list(range(1, 9))
    assert len(fitted.history) == 8
    assert fitted.history[-1] < fitted.history[0]


def test_bpr_ranks_more_pairs_right_with_every_pass(small: TrainSettings) -> None:
    learned = confidence_matrix(checkerboard(), confidence_parameters(small, START))
    bpr = open_algorithm(small.model_copy(update={"algorithm": "bpr", "factors": 4, "parameters": {}}))
    fitted = bpr.fit(learned.matrix, silent)
    assert fitted.item_factors.shape == (len(learned.item_ids), 5), "the bias is one more dimension"
    assert 0.0 < fitted.history[0] < fitted.history[-1] <= 1.0


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_the_snapshot_is_what_a_consumer_would_fold_in(small: TrainSettings, tmp_path: Path, algorithm: str) -> None:
    registry, rows = MemoryModelRegistry(), checkerboard()
    settings = small.model_copy(
        update={"history_length": 7, "half_life_days": 20.0, "algorithm": algorithm, "parameters": {}}
    )
    manifest = run(settings, log_of(rows), registry, RunRequest(**WHO)).manifest
    index = Index.open(registry.fetch(manifest.version, tmp_path), manifest)
    remembered = list(histories(newest_per_user(rows.sort("occurred_at", "event_id"), 7)))
    assert len(remembered) == manifest.section["users"] == 40
    for (user, _), vector in zip(remembered, index.fold_in_many([history for _, history in remembered]), strict=True):
        assert vector is not None
        snapshot = index.snapshot(user)
        assert snapshot is not None
        np.testing.assert_allclose(snapshot, vector, atol=1e-5)


def test_the_version_knows_titles_and_what_is_unavailable(small: TrainSettings, tmp_path: Path) -> None:
    log, registry = log_of(checkerboard()), MemoryModelRegistry()
    log.append_items([Item(item_id="i3", updated_at=START, title="Teapot", available=False)])
    result = run(small, log, registry, RunRequest(**WHO))
    index = Index.open(registry.fetch(result.manifest.version, tmp_path), result.manifest)
    item = index.item(index.item_id.row("i3"))
    assert item is not None
    assert (item.title, item.available) == ("Teapot", False)
    assert result.candidate.list_counts[index.item_id.row("i3")] > 0, (
        "what is sold out today was not so in the held-out days"
    )


def test_nobody_to_judge_by_is_published_only_by_force_and_without_numbers(small: TrainSettings) -> None:
    rows = checkerboard()
    log = log_of(rows.with_columns(user_id="u" + rows["offset"].cast(str)))
    registry = MemoryModelRegistry()
    with pytest.raises(NotEnoughData, match="past"):
        run(small, log, registry, RunRequest(**WHO))
    result = run(small, log, registry, RunRequest(actor="ann", reason="the first week", force=True))
    assert registry.versions() == [result.manifest]
    assert result.manifest.metrics == {}
    verdict = result.manifest.verdict
    assert verdict is not None
    assert verdict.forced is True
    assert "gate.min_users" in verdict.reasons[0]
    assert "nothing was measured" in result.report.read_text()
    assert render(result) is not None


@pytest.mark.parametrize("reason", ["", "  "])
def test_force_needs_a_reason(small: TrainSettings, reason: str) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        run(small, log_of(checkerboard()), MemoryModelRegistry(), RunRequest(actor="ann", reason=reason, force=True))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_one_user_or_one_item_is_not_enough(small: TrainSettings, column: str) -> None:
    only = checkerboard().with_columns(**{column: checkerboard()[column].gather([0]).new_from_index(0, 4000)})
    with pytest.raises(NotEnoughData, match="2 users with 2 items"):
        dataset.load(log_of(only), None, small)


def test_a_shop_of_one_moment_is_not_enough(small: TrainSettings) -> None:
    at_once = checkerboard().with_columns(occurred_at=checkerboard()["occurred_at"].new_from_index(0, 4000))
    with pytest.raises(NotEnoughData, match="past"):
        run(small, log_of(at_once), MemoryModelRegistry(), RunRequest(**WHO))


def test_the_live_version_is_judged_by_its_lead_when_it_has_seen_the_answers(small: TrainSettings) -> None:
    registry, log = MemoryModelRegistry(), log_of(checkerboard())
    live = run(small, log, registry, RunRequest(**WHO))
    promote(registry, live.manifest.version, **WHO)
    lead = live.manifest.metrics["recall@20"] / live.manifest.metrics["popularity recall@20"]
    again = run(small, log, registry, RunRequest(**WHO))
    assert f"{lead:.2f} times the recall of popular items" in again.live_note
    assert again.reasons == []


def test_a_live_version_that_cannot_be_opened_stops_nobody(small: TrainSettings, tmp_path: Path) -> None:
    registry, log = open_model_registry(RegistrySettings(url=str(tmp_path / "registry"))), log_of(checkerboard())
    live = run(small, log, registry, RunRequest(**WHO)).manifest.version
    promote(registry, live, **WHO)
    (tmp_path / "registry" / "models" / "recommender" / "versions" / live / "items.faiss").write_bytes(b"rotten")
    result = run(small, log, registry, RunRequest(**WHO))
    assert result.live is None
    assert "items.faiss" in result.live_note


def test_progress_names_every_stage(small: TrainSettings) -> None:
    told: list[str] = []
    run(
        small,
        log_of(checkerboard()),
        MemoryModelRegistry(),
        RunRequest(**WHO),
        progress=lambda stage, *_: told.append(stage),
    )
    stages = list(dict.fromkeys(told))
    assert stages[:2] == ["reading the log", "learning factors"]
    assert stages[-2:] == ["learning from everything", "publishing"]
    assert "evaluating candidate" in stages
