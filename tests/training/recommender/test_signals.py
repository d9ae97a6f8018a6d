"""What goes together, what trends, and where items go that nobody has touched: answers known beforehand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys.catalogue.catalogue import Catalogue
from recsys.index.content import place
from recsys.index.factors import gram
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.recommender.candidates.demand import new
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import ITEMS, checkerboard, log_of
from training.recommender.co_occurrence import log_likelihood_ratio, together
from training.recommender.cold_start import cold_items, learn
from training.recommender.dataset import histories, newest_per_user
from training.recommender.popularity import trending
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import ColdStartSettings, CooccurrenceSettings, TrainSettings, TrendingSettings

START = datetime(2026, 1, 1, tzinfo=UTC)


def bought(*baskets: str, session: bool = True, kind: str = "purchase") -> pl.DataFrame:
    """One basket per text, an item per letter."""
    rows = [
        {
            "user_id": f"u{place}",
            "item_id": item,
            "type": kind,
            "occurred_at": START + timedelta(days=place),
            "session_id": f"s{place}" if session else None,
        }
        for place, basket in enumerate(baskets)
        for item in basket
    ]
    return pl.DataFrame(rows, schema_overrides={"session_id": pl.String, "occurred_at": pl.Datetime("us", "UTC")})


def neighbours(interactions: pl.DataFrame, items: str = "abcdef", **settings: Any) -> dict[str, str]:
    found = together(interactions, list(items), CooccurrenceSettings(min_support=2, **settings))
    return {item: "".join(items[row] for row in found.of(place)[0]) for place, item in enumerate(items)}


@pytest.mark.parametrize("session", [True, False])
def test_what_is_bought_together_comes_first(session: bool) -> None:
    baskets = ["ab", "ab", "abc", "cd", "cd", "ef", "e", "f", "ac"]
    found = neighbours(bought(*baskets, session=session))
    assert found["a"][0] == "b"
    assert found["b"] == "a"
    assert found["c"][0] == "d"
    assert found["e"] == "", "met once: below the support"


def test_an_item_in_every_basket_goes_with_nothing_in_particular() -> None:
    found = neighbours(bought("ax", "ay", "axy", "axy", "az", "ax"), "axyz")
    assert found["a"] == ""
    assert "a" not in found["x"]


def test_views_fill_baskets_only_where_nothing_was_bought() -> None:
    views, purchases = bought("ab", "ab", "ab", "cd", kind="view"), bought("cd", "cd", "cd", "ab")
    assert neighbours(views)["a"] == "b"
    assert neighbours(pl.concat([views, purchases]))["c"] == "d"
    assert neighbours(pl.concat([views, purchases]))["a"] == ""


def test_a_basket_of_the_whole_shop_counts_only_so_far() -> None:
    assert neighbours(bought("abcdef", "abcdef", "abcdef", "x"), "abcdefx", max_basket=2) == dict.fromkeys(
        "cdefx", ""
    ) | {
        "a": "b",
        "b": "a",
    }


def test_the_ratio_is_the_textbooks() -> None:
    # Dunning's own example of a contingency table: 110, 2442, 111, 29114 gives 270.72.
    (ratio,) = log_likelihood_ratio(np.array([110.0]), 110 + 2442, np.array([110.0 + 111]), 110 + 2442 + 111 + 29114)
    assert ratio == pytest.approx(270.72, abs=0.01)


def test_what_is_wanted_more_than_usual_trends() -> None:
    now = START + timedelta(days=40)
    rows = [("steady", day, user) for day in range(40) for user in range(10)]
    rows += [("rising", day, user) for day in range(30, 40) for user in range(3 * (day > 34) * (day - 34))]
    rows += [("fading", day, user) for day in range(20) for user in range(20)]
    rows += [("eager", 39, 1)] * 50
    interactions = pl.DataFrame(
        [
            {"item_id": item, "occurred_at": START + timedelta(days=day), "user_id": f"u{user}"}
            for item, day, user in rows
        ]
    )
    items = ["steady", "rising", "fading", "eager"]
    scores = trending(interactions, items, np.ones(4, np.float32), TrendingSettings(hours=120))
    assert now > interactions["occurred_at"].max()  # type: ignore[operator]
    assert int(np.argmax(scores)) == 1
    assert scores[2] == 0.0
    assert scores[3] == 0.0, "one user is no trend, however eager"


def described(n: int) -> Item:
    kind = ["tea", "garden"][n % 2]
    return Item(item_id=f"i{n}", updated_at=START + timedelta(days=n), title=f"{kind} number {n}", categories=[kind])


def test_an_item_goes_where_its_like_are() -> None:
    rng = np.random.default_rng(3)
    factors = np.eye(2)[np.arange(60) % 2] * rng.uniform(0.5, 2.0, size=(60, 1)) + 0.1 * rng.normal(size=(60, 2))
    model = learn(
        [described(n) for n in range(60)], factors.astype(np.float32), np.ones(60), ColdStartSettings(min_items=50)
    )
    placed = place([described(100), described(101)], model.projection)
    assert placed[0, 0] > 3 * abs(placed[0, 1])
    assert placed[1, 1] > 3 * abs(placed[1, 0])
    lengths = [np.median(np.linalg.norm(one, axis=1)) for one in (placed, factors)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.25), "neither louder than what people know nor lost"
    assert model.similarity > 0.9
    assert model.judged == 6


def test_the_latest_items_that_nobody_touched_join() -> None:
    factors = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    settings = ColdStartSettings(min_items=10, max_items=3)
    model = learn([described(n) for n in range(20)], factors, np.ones(20), settings)
    catalogue = {f"i{n}": described(n) for n in range(30)}
    cold = cold_items(catalogue, [f"i{n}" for n in range(20)], model, settings)
    assert cold.item_ids == ["i27", "i28", "i29"]
    assert cold.factors.shape == (3, 4)


def test_without_descriptions_there_is_nothing_to_place_by() -> None:
    model = learn([None] * 20, np.ones((20, 4), np.float32), np.ones(20), ColdStartSettings(min_items=10))
    assert model.projection.shape == (0, 4)
    assert cold_items({"a": described(1)}, [], model, ColdStartSettings()).item_ids == []


@pytest.fixture
def with_cold_items(small: TrainSettings, tmp_path: Path) -> Index:
    """The checkerboard's version, and two items nobody has touched: one for even users, one for odd ones."""
    log, registry = log_of(checkerboard()), MemoryModelRegistry()
    log.append_items([described(n) for n in range(ITEMS + 2)])
    settings = small.model_copy(update={"cold_start": ColdStartSettings(min_items=ITEMS)})
    manifest = run(settings, log, registry, RunRequest(actor="test", reason="test")).manifest
    assert manifest.parameters["cold_start"]["items"] == 2
    return Index.open(registry.fetch(manifest.version, tmp_path / "version"), manifest)


def test_an_item_nobody_touched_is_found_by_those_it_is_for(with_cold_items: Index) -> None:
    catalogue = Catalogue.of(with_cold_items)
    for n in range(2):
        vector = with_cold_items.snapshot(f"u{n}")
        assert catalogue.ids(new(catalogue, vector, None, frozenset(), 2).rows)[0] == f"i{ITEMS + n}"


def test_items_nobody_touched_change_no_users_vector(with_cold_items: Index) -> None:
    index = with_cold_items
    np.testing.assert_allclose(index.gram, gram(index.item_factors[~index.cold]), rtol=1e-5)
    past = checkerboard().sort("occurred_at", "event_id")
    for user, history in histories(newest_per_user(past, TrainSettings().history_length)):
        (vector,) = index.fold_in_many([history])
        snapshot = index.snapshot(user)
        assert vector is not None
        assert snapshot is not None
        np.testing.assert_allclose(snapshot, vector, atol=1e-5)


def test_items_nobody_touched_are_neither_popular_nor_trending_nor_anyones_neighbour(with_cold_items: Index) -> None:
    cold = np.flatnonzero(with_cold_items.cold)
    assert with_cold_items.item_id.ids(cold) == [f"i{ITEMS}", f"i{ITEMS + 1}"]
    assert not with_cold_items.popularity[cold].any()
    assert not with_cold_items.trending[cold].any()
    assert not np.isin(with_cold_items.co_occurrence.rows, cold).any()


def test_no_more_cold_items_join_than_are_asked_for() -> None:
    factors = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    settings = ColdStartSettings(min_items=10, max_items=0)
    model = learn([described(n) for n in range(20)], factors, np.ones(20), settings)
    assert cold_items({"new": described(99)}, [], model, settings).item_ids == []
