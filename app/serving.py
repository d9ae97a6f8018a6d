"""The request path on one screen: live index -> features -> recommend -> answer."""

from random import getrandbits
from time import perf_counter, time_ns

import numpy as np

from app.feature_reader import FeatureReader
from app.live_index import LiveIndex, LoadedVersion
from app.metrics import RUNGS, SEARCH_SECONDS
from app.schemas import Answer, AnswerItem
from recsys.errors import Unavailable
from recsys.recommendation import Filter, Query, Recommendation
from recsys.recommender import Catalogue, recommend, similar

NO_VERSION = "no index version is live yet: train one and promote it (millirec train)"


class Serving:
    """Answers queries from whatever is in memory and in the feature store right now."""

    def __init__(self, live_index: LiveIndex, features: FeatureReader) -> None:
        self._live_index = live_index
        self._features = features

    def live(self) -> LoadedVersion:
        """The version that answers now. Raises `Unavailable` while there is none."""
        if self._live_index.current is None:
            raise Unavailable(NO_VERSION, retry_after=5.0)
        return self._live_index.current

    async def recommend(self, query: Query, properties: tuple[str, ...]) -> Answer:
        """Personal items, or the best the fallback ladder has; consistent with exactly one version."""
        live = self.live()
        features, degraded = None, False
        if query.user_id is not None:
            features = await self._features.read(query.user_id, live.index.version)
            degraded = features is None
        began = perf_counter()
        result = recommend(query, features, live.catalogue)
        SEARCH_SECONDS.observe(perf_counter() - began)
        RUNGS.labels(result.rung.value, str(degraded).lower()).inc()
        return answer(result, live.catalogue, properties, degraded=degraded)

    def similar(self, item_id: str, k: int, condition: Filter | None, properties: tuple[str, ...]) -> Answer:
        """Items whose factors point the same way. Raises `NotFound`."""
        catalogue = self.live().catalogue
        return answer(similar(item_id, k, catalogue, condition), catalogue, properties)

    def popular(self, k: int, condition: Filter | None, properties: tuple[str, ...]) -> Answer:
        catalogue = self.live().catalogue
        return answer(recommend(Query(k=k, filter=condition), None, catalogue), catalogue, properties)


def answer(
    result: Recommendation, catalogue: Catalogue, properties: tuple[str, ...], *, degraded: bool = False
) -> Answer:
    """The response body, built from arrays."""
    ids = catalogue.index.item_id.ids(result.rows)
    shown = catalogue.shown(result.rows.tolist(), properties) if properties else [None] * len(ids)
    scores = np.round(result.scores.astype(np.float64), 6).tolist()
    items = [
        AnswerItem(one, score, source.value, values)
        for one, score, source, values in zip(ids, scores, result.sources, shown, strict=True)
    ]
    return Answer(recommendation_id(), result.version, degraded, result.rung.value, items)


def recommendation_id() -> str:
    """Unique, sorts by time: microseconds since 1970 and 48 random bits, in hexadecimal."""
    return f"{time_ns() // 1000:014x}{getrandbits(48):012x}"
