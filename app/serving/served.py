"""Served: recommendations with the ids and scores to show, looked up for a whole batch at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from app.versions.live_index import LoadedVersion
from recsys.experiments.rollout import Variant
from recsys.recommender.query import Recommendation

NUMERALS = 6
"""Decimals of a score."""


@dataclass(slots=True)
class Served:
    """A recommendation with what it was made from; `degraded` when the user's features could not be read.

    `ids` and rounded `scores` are those of its items; `seconds` it took in the recommender. `stood_in`: another
    version was to answer and could not.
    """

    result: Recommendation
    live: LoadedVersion
    degraded: bool
    ids: list[str]
    scores: list[float]
    seconds: float = 0.0
    stood_in: bool = False
    variant: Variant | None = None


def served(
    results: Sequence[Recommendation], live: LoadedVersion, degraded: Iterable[bool], seconds: float = 0.0
) -> list[Served]:
    """`results` of one version, each with its ids and scores: looking up ten times eight ids costs five times one."""
    ids = live.catalogue.ids(np.concatenate([result.rows for result in results]))
    scores = np.concatenate([result.scores for result in results]).astype(np.float64).round(NUMERALS).tolist()
    ends = accumulate(len(result.rows) for result in results)
    return [
        Served(result, live, lacking, ids[end - len(result.rows) : end], scores[end - len(result.rows) : end], seconds)
        for result, lacking, end in zip(results, degraded, ends, strict=True)
    ]
