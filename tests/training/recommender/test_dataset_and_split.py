"""What training learns from is what the log says, and never the future."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from recsys.errors import NotEnoughData
from recsys.index.factors import confidences, decayed_weights
from recsys.messages.interaction import IMPRESSION, epoch_ms
from recsys.models.kinds import ConfidenceParameters
from recsys.stores.event_log.memory import MemoryInteractionLog
from tests.training.conftest import DAYS, START, checkerboard, log_of
from training.evaluation.splits import split_by_time
from training.recommender import dataset
from training.recommender.popularity import popularity
from training.settings import TrainSettings


def test_the_split_leaks_nothing_and_loses_nothing() -> None:
    rows = checkerboard()
    split = split_by_time(rows, holdout_days=14)
    assert split.past["occurred_at"].to_list()[-1] < split.cutoff <= split.future["occurred_at"].to_list()[0]
    assert split.past.height + split.future.height == rows.height
    assert rows["occurred_at"].to_list()[-1] - split.cutoff == timedelta(days=14)


def test_a_young_log_holds_out_a_fifth_of_its_time() -> None:
    split = split_by_time(checkerboard(), holdout_days=365)
    assert (split.cutoff - START) / timedelta(days=DAYS) == pytest.approx(0.8, abs=0.02)


def test_confidence_in_the_matrix_is_confidence_online() -> None:
    rows = checkerboard().with_columns(pl.Series("type", ["purchase", "view", "wave", "click"] * 1000))
    parameters = ConfidenceParameters(
        alpha=7.0, regularization=1.0, reference_ms=epoch_ms(START + timedelta(days=50)), half_life_days=9.0
    )
    learned = dataset.confidence_matrix(rows, parameters)
    place = {item: column for column, item in enumerate(learned.item_ids)}
    for user_id, history in dataset.histories(rows):
        columns = np.array([place[entry.item_id] for entry in history])
        expected, confidence = confidences(columns, decayed_weights(history, parameters), parameters.alpha)
        row = learned.matrix[learned.user_ids.index(user_id)].sorted_indices()
        assert row.indices.tolist() == expected.tolist()
        np.testing.assert_allclose(row.data, confidence, rtol=1e-6)


def test_only_the_newest_of_a_user_are_remembered() -> None:
    kept = dataset.newest_per_user(checkerboard(), 5)
    assert kept.group_by("user_id").len()["len"].unique().to_list() == [5]
    assert kept["occurred_at"].to_list()[0] == START + timedelta(days=DAYS - 5)


def test_popular_is_what_most_users_wanted_lately() -> None:
    rows = checkerboard().with_columns(
        pl.when(pl.col("occurred_at") >= START + timedelta(days=DAYS - 5))
        .then(pl.lit("i1"))
        .otherwise("item_id")
        .alias("item_id")
    )
    items = sorted(rows["item_id"].unique().to_list())
    counted = popularity(rows, items, days=3)
    assert items[int(np.argmax(counted))] == "i1"
    assert ((counted < 1.0) | (np.arange(len(items)) == items.index("i1"))).all()


@pytest.mark.parametrize("count", [0, 1, 99])
def test_too_little_data_says_what_is_needed(small: TrainSettings, count: int) -> None:
    log = log_of(checkerboard().head(count)) if count else MemoryInteractionLog()
    with pytest.raises(NotEnoughData, match="import" if not count else "100"):
        dataset.load(log, None, small)


def test_what_was_only_shown_is_not_learned_from(small: TrainSettings) -> None:
    rows = checkerboard()
    shown = pl.int_range(pl.len()) % 2 == 0
    kinds = pl.when(shown).then(pl.lit(IMPRESSION)).otherwise("type").alias("type")
    loaded = dataset.load(log_of(rows.with_columns(kinds)), None, small)
    assert loaded.interactions["event_id"].to_list() == rows.filter(~shown)["event_id"].to_list()


def test_a_snapshot_does_not_see_what_came_later(small: TrainSettings) -> None:
    rows = checkerboard()
    log = log_of(rows.head(2000))
    before = log.version()
    log.append(rows.tail(2000), {"test-0": 3999})
    assert dataset.load(log, before, small).interactions.height == 2000
    assert dataset.load(log, None, small).interactions.height == 4000
