"""FeatureReader: the serving read of many users, behind a circuit breaker; never an exception."""

from collections.abc import Sequence
from time import perf_counter

import structlog

from app.circuit_breaker import CircuitBreaker
from app.metrics import FEATURE_READ_ERRORS, FEATURE_READ_SECONDS
from recsys.errors import StoreUnavailable
from recsys.feature_store import FeatureStore
from recsys.throttle import log_throttled
from recsys.user_features import UserFeatures

log = structlog.get_logger()


class FeatureReader:
    """Reads through `store`, within its `read_timeout`, unless the breaker says that it is of no services."""

    def __init__(self, store: FeatureStore, breaker: CircuitBreaker) -> None:
        self._store = store
        self._breaker = breaker

    async def read(
        self, user_ids: Sequence[str], version: str, *, shown: bool, batch: bool = False
    ) -> list[UserFeatures | None]:
        """Features with the embedding of `version` per user, `None` where the store cannot say."""
        if not user_ids:
            return []
        if not self._breaker.allow():
            FEATURE_READ_ERRORS.labels("open").inc()
            return [None] * len(user_ids)
        began = perf_counter()
        try:
            records = await self._store.read(user_ids, version, shown=shown, batch=batch)
        except Exception as error:  # noqa: BLE001  # a bug here must not cost anybody their answer
            self._breaker.failed()
            FEATURE_READ_ERRORS.labels("failed").inc()
            expected = isinstance(error, StoreUnavailable)
            log_throttled(
                log,
                "warning",
                "feature read failed, answering without",
                cause=type(error).__name__,
                error=str(error),
                users=len(user_ids),
                exc_info=not expected,
            )
            return [None] * len(user_ids)
        finally:
            FEATURE_READ_SECONDS.observe(perf_counter() - began)
        self._breaker.succeeded()
        # An unreadable record is no stranger: their snapshot may still speak for them.
        return [features if features.revision >= 0 else None for features in records]
