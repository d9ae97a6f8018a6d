"""A whole run: learned, judged as served, published or refused."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import pytest
from pydantic import ValidationError
from rich.console import Console

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import GateRefused, NotEnoughData
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.recommender.pipeline import recommend
from recsys.recommender.query import FallbackLevel, Query
from recsys.stores.event_log import InteractionLog
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import checkerboard, log_of
from training.recommender.algorithms import algorithm_names
from training.reports.report import render
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import GateSettings, TrainSettings


class Who(TypedDict):
    actor: str
    reason: str


WHO: Who = {"actor": "test", "reason": "test"}


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_a_published_version_knows_who_wants_what(small: TrainSettings, tmp_path: Path, algorithm: str) -> None:
    registry = MemoryModelRegistry()
    settings = small.model_copy(update={"algorithm": algorithm})
    result = run(settings, log_of(checkerboard()), registry, RunRequest(**WHO))
    manifest = registry.manifest(result.manifest.version)
    catalogue = Catalogue.of(Index.open(registry.fetch(manifest.version, tmp_path / "cache"), manifest))
    for user in ("u0", "u1", "u38", "u39"):
        answer = recommend(Query(k=10, user_id=user), None, catalogue)
        assert answer.fallback_level is FallbackLevel.SNAPSHOT
        parities = {int(item[1:]) % 2 for item in catalogue.index.item_id.ids(answer.rows)}
        assert parities == {int(user[1:]) % 2}
    assert result.candidate.metrics["recall@20"] > 1.8 * result.popularity.metrics["recall@20"]


def test_the_manifest_says_all_that_the_run_was(small: TrainSettings) -> None:
    registry = MemoryModelRegistry()
    log = log_of(checkerboard())
    manifest = run(small, log, registry, RunRequest(actor="ann", reason="weekly")).manifest
    assert manifest == registry.manifest(manifest.version)
    assert manifest.section["log_version"] == log.version()
    assert manifest.parameters["training"]["seed"] == small.seed
    assert manifest.parameters["run"] == {"actor": "ann", "reason": "weekly"}
    assert manifest.parameters["split"]["evaluated_users"] == 40
    assert manifest.verdict is not None
    assert (manifest.verdict.passed, manifest.verdict.reasons, manifest.verdict.forced) == (True, [], False)
    assert manifest.metrics["recall@20"] > manifest.metrics["popularity recall@20"]


def test_a_version_below_the_gate_is_refused_with_every_reason(small: TrainSettings) -> None:
    registry = MemoryModelRegistry()
    strict = GateSettings(min_ratio_to_popularity=50.0, min_coverage=1.0)
    settings = small.model_copy(update={"gate": strict, "popularity_days": 1.0, "factors": 1})
    with pytest.raises(GateRefused) as refusal:
        run(settings, log_of(checkerboard()), registry, RunRequest(**WHO))
    told = " ".join(refusal.value.reasons)
    assert all(name in told for name in ("gate.min_coverage", "gate.min_ratio_to_popularity"))
    assert registry.versions() == []
    report = re.search(r"report: (.*)$", refusal.value.reasons[-1])
    assert report is not None
    assert "Refused by the quality gate" in Path(report[1]).read_text()


def test_a_forced_version_is_published_and_says_so(small: TrainSettings) -> None:
    registry = MemoryModelRegistry()
    settings = small.model_copy(update={"gate": GateSettings(min_ratio_to_popularity=50.0)})
    manifest = run(
        settings, log_of(checkerboard()), registry, RunRequest(actor="ann", reason="we know why", force=True)
    ).manifest
    assert manifest.verdict is not None
    assert manifest.verdict.forced is True
    assert registry.versions() == [manifest]


def test_a_version_that_forgets_what_the_live_one_knew_is_refused(small: TrainSettings) -> None:
    registry = MemoryModelRegistry()
    rows = checkerboard()
    log = log_of(rows.head(3200))
    good = run(small, log, registry, RunRequest(**WHO)).manifest
    promote(registry, good.version, **WHO)
    log.append(rows.tail(800), {"test-0": 3999})
    worse = small.model_copy(update={"parameters": {"iterations": 1}, "factors": 1})
    with pytest.raises(GateRefused, match=r"gate\.max_drop_to_live"):
        run(worse, log, registry, RunRequest(**WHO))


def test_a_live_version_that_saw_the_answers_is_no_yardstick(small: TrainSettings) -> None:
    registry = MemoryModelRegistry()
    log = log_of(checkerboard())
    promote(registry, run(small, log, registry, RunRequest(**WHO)).manifest.version, **WHO)
    result = run(small, log, registry, RunRequest(**WHO))
    assert result.live is not None
    assert "has seen the answers" in result.live_note


def test_a_log_without_returning_users_is_not_enough(small: TrainSettings) -> None:
    rows = checkerboard()
    once = rows.with_columns(user_id="u" + rows["offset"].cast(str))
    with pytest.raises(NotEnoughData, match="past"):
        run(small, log_of(once), MemoryModelRegistry(), RunRequest(**WHO))


def test_the_same_seed_gives_the_same_version(small: TrainSettings) -> None:
    runs = [run(small, log_of(checkerboard()), MemoryModelRegistry(), RunRequest(**WHO)).manifest for _ in range(2)]
    assert runs[0].files["item_factors.npy"] == runs[1].files["item_factors.npy"]
    assert runs[0].metrics == runs[1].metrics


def test_the_report_is_one_page_that_needs_nothing_else(small: TrainSettings) -> None:
    page = run(small, log_of(checkerboard()), MemoryModelRegistry(), RunRequest(**WHO)).report.read_text()
    assert page.count("<svg") == 6
    assert not re.search(r"""(?:src|href)=["'](?!#)|@import|url\((?!#)""", page.replace("xlink:href", "href"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_on_the_shop_the_model_beats_popularity_twice(shop: InteractionLog, tmp_path: Path) -> None:
    settings = TrainSettings(reports=tmp_path)
    result = run(settings, shop, MemoryModelRegistry(), RunRequest(**WHO))
    recall = result.candidate.metrics["recall@20"]
    popular = result.popularity.metrics["recall@20"]
    assert recall >= 0.23
    assert popular >= 0.09, "the yardstick must not be a weak one"
    assert recall >= 2.0 * popular
    new, popular_new = (one.metrics["recall@20"] for one in result.discovery)
    assert new >= popular_new, "also for items that are new to the user"


@pytest.mark.parametrize("name", ["regularization", "half_life_days", "popularity_days"])
@pytest.mark.parametrize("value", ["inf", "nan", float("inf")])
def test_a_setting_that_is_no_finite_number_is_refused(name: str, value: str | float) -> None:
    """It was null in the manifest, and a version was published that nobody could open."""
    with pytest.raises(ValidationError, match="finite"):
        TrainSettings.model_validate({name: value})


def test_an_item_of_wider_bounds_costs_the_version_no_more_than_its_properties(
    small: TrainSettings, tmp_path: Path
) -> None:
    """It made a version in which whoever would have seen the item got an error, at each training anew."""
    log, registry = log_of(checkerboard()), MemoryModelRegistry()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    wide = Item(item_id="i0", updated_at=at, title="x" * 5000, available=False)
    log.append_items([wide, Item(item_id="i1", updated_at=at, title="Lamp")])
    result = run(small, log, registry, RunRequest(**WHO))
    assert result.manifest.parameters["items_without_properties"] == 1
    index = Index.open(registry.fetch(result.manifest.version, tmp_path / "version"), result.manifest)
    catalogue = Catalogue.of(index)
    first, second = catalogue.rows(["i0", "i1"]).tolist()
    assert catalogue.is_hidden(first)
    assert catalogue.returned_properties([first, second], ["title"]) == [{}, {"title": "Lamp"}]
    console = Console(width=100)
    with console.capture() as shown:
        console.print(render(result))
    assert "1 items could not be read again" in shown.get()
