"""Dataset: a snapshot of the log, and the matrices and histories made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.errors import NotEnoughData
from recsys.index.factors import decayed
from recsys.messages.interaction import IMPRESSION, epoch_ms, event_key
from recsys.messages.item import Item
from recsys.models.kinds import ConfidenceParameters
from recsys.stores.event_log import InteractionLog
from recsys.users import HistoryEntry
from training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Dataset:
    """`interactions` as of `log_version`, oldest first; `items` by id; `watermark` is the newest event time."""

    interactions: pl.DataFrame
    items: dict[str, Item]
    log_version: int
    watermark: datetime


@dataclass(frozen=True, slots=True)
class ConfidenceMatrix:
    """`matrix` (users, items) float32 of confidences; its rows are `user_ids`, its columns `item_ids`."""

    matrix: csr_matrix
    user_ids: list[str]
    item_ids: list[str]


def load(log: InteractionLog, log_version: int | None, settings: TrainSettings) -> Dataset:
    """Return the log as of a version (default: the newest). Raises `NotEnoughData`, `LogUnavailable`."""
    version = log.version() if log_version is None else log_version
    if version < 0:
        raise NotEnoughData("the interaction log is empty: import a file (millirec import) or post events first")
    columns = ["event_id", "user_id", "item_id", "type", "occurred_at", "session_id"]
    tastes = log.read(version).filter(pl.col("type") != IMPRESSION).select(columns)
    interactions = tastes.sort("occurred_at", "event_id").collect()
    users, items = interactions["user_id"].n_unique(), interactions["item_id"].n_unique()
    if interactions.height < settings.min_interactions or users < 2 or items < 2:
        raise NotEnoughData(
            f"{interactions.height} interactions of {users} users with {items} items; "
            f"at least {settings.min_interactions} of 2 users with 2 items are needed (train.min_interactions)"
        )
    watermark = interactions["occurred_at"].max()
    assert isinstance(watermark, datetime)  # noqa: S101
    return Dataset(interactions, {item.item_id: item for item in log.items()}, version, watermark)


def confidence_parameters(settings: TrainSettings, reference: datetime) -> ConfidenceParameters:
    """Return the confidence parameters of the version being trained; ages count back from `reference`."""
    return ConfidenceParameters(
        alpha=settings.alpha,
        regularization=settings.regularization,
        reference_ms=epoch_ms(reference),
        type_weights=dict(settings.type_weights),
        other_weight=settings.other_weight,
        half_life_days=settings.half_life_days,
    )


def confidence_matrix(
    interactions: pl.DataFrame, parameters: ConfidenceParameters, item_ids: list[str] | None = None
) -> ConfidenceMatrix:
    """Return 1 + alpha * summed weights per user and item, by the formula that fold-in uses online.

    Items outside `item_ids` (default: every item, sorted) are left out.
    """
    items = interactions["item_id"].unique().sort().to_list() if item_ids is None else item_ids
    events = interactions.filter(pl.col("item_id").is_in(items))
    users = events["user_id"].unique().sort().to_list()
    base = events["type"].replace_strict(
        parameters.type_weights, default=parameters.other_weight, return_dtype=pl.Float64
    )
    at_ms = events["occurred_at"].dt.epoch("ms").cast(pl.Float64)
    weights = decayed(base.to_numpy(), at_ms.to_numpy(), parameters)
    rows = _positions(events["user_id"], users)
    columns = _positions(events["item_id"], items)
    summed = csr_matrix((weights, (rows, columns)), shape=(len(users), len(items)), dtype=np.float64)
    summed.sum_duplicates()
    summed.data = 1.0 + parameters.alpha * summed.data
    return ConfidenceMatrix(summed.astype(np.float32), users, items)


def newest_per_user(interactions: pl.DataFrame, length: int) -> pl.DataFrame:
    """Return each user's `length` newest interactions, oldest first, as the feature store would keep them."""
    return interactions.group_by("user_id", maintain_order=True).tail(length)


def histories(interactions: pl.DataFrame) -> Iterator[tuple[str, tuple[HistoryEntry, ...]]]:
    """Yield (user, history) as the feature store would hold it, for each user of time-ordered `interactions`."""
    grouped = interactions.group_by("user_id", maintain_order=True).agg(
        pl.col("occurred_at").dt.epoch("ms"), "event_id", "item_id", "type"
    )
    for user_id, *columns in grouped.iter_rows():
        yield (
            user_id,
            tuple(
                HistoryEntry(at_ms, event_key(event_id), item_id, kind)
                for at_ms, event_id, item_id, kind in zip(*columns, strict=True)
            ),
        )


def _positions(values: pl.Series, order: list[str]) -> NDArray[np.int64]:
    return values.replace_strict(order, list(range(len(order))), return_dtype=pl.Int64).to_numpy()
