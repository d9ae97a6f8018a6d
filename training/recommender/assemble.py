"""Assemble: item factors, and everything else in a version besides its search index, from the log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from recsys.index.artefact import IndexContents, without_unreadable
from recsys.models.kinds import ConfidenceParameters
from training.recommender import dataset as data
from training.recommender.algorithms.protocol import Algorithm, Fit
from training.recommender.algorithms.protocol import Progress as Passes
from training.recommender.co_occurrence import together
from training.recommender.cold_start import cold_items, learn
from training.recommender.index_build import Progress
from training.recommender.popularity import popularity, trending
from training.settings import TrainSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FactorModel:
    """Item factors of `item_ids`, learned from `interactions` with confidences by `confidence`."""

    interactions: pl.DataFrame
    confidence: ConfidenceParameters
    item_ids: list[str]
    fit: Fit


def fit_factors(
    settings: TrainSettings,
    algorithm: Algorithm,
    interactions: pl.DataFrame,
    reference: datetime,
    progress: Passes,
) -> FactorModel:
    """Learn item factors from `interactions`, whose ages count back from `reference`."""
    confidence = data.confidence_parameters(settings, reference)
    learned = data.confidence_matrix(interactions, confidence)
    return FactorModel(interactions, confidence, learned.item_ids, algorithm.fit(learned.matrix, progress))


def assemble(
    settings: TrainSettings, algorithm: Algorithm, dataset: data.Dataset, model: FactorModel, progress: Progress
) -> tuple[IndexContents, dict[str, Any]]:
    """Return contents for `write_artefact`, cold items included, and the manifest's notes on them."""
    interactions, item_ids, item_factors = model.interactions, model.item_ids, model.fit.item_factors
    remembered = data.newest_per_user(interactions, settings.history_length)
    users = data.confidence_matrix(remembered, model.confidence, item_ids)
    vectors = algorithm.user_factors(users.matrix, item_factors)
    progress("finding what goes together", 0, None)
    described = [dataset.items.get(item_id) for item_id in item_ids]
    popular = popularity(interactions, item_ids, settings.popularity_days)
    trends = trending(interactions, item_ids, popular, settings.trending)
    neighbours = together(interactions, item_ids, settings.cooccurrence)
    progress("placing new items", 0, None)
    demand = np.bincount(users.matrix.indices, minlength=len(item_ids)).astype(np.float64)
    content = learn(described, item_factors, demand, settings.cold_start)
    cold = cold_items(dataset.items, item_ids, content, settings.cold_start)
    factors = np.concatenate([item_factors, cold.factors])
    items, bare = without_unreadable([*described, *cold.items])
    if bare:
        log.warning("items that could not be read again go without their properties", count=len(bare), first=bare[0])
    contents = IndexContents(
        item_ids=[*item_ids, *cold.item_ids],
        item_factors=factors,
        popularity=_with_none(popular, len(cold.items)),
        user_ids=users.user_ids,
        user_factors=vectors,
        items=items,
        trending=_with_none(trends, len(cold.items)),
        co_occurrence=neighbours.extended(len(cold.items)),
        cold=np.arange(len(factors)) >= len(item_ids),
        content=content.projection,
    )
    cold_start = {"items": len(cold.items), "similarity": content.similarity, "judged": content.judged}
    return contents, {"cold_start": cold_start, "items_without_properties": len(bare)}


def _with_none(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `values` (n,) and a zero for each of `count` cold items."""
    return np.concatenate([values, np.zeros(count, np.float32)])
