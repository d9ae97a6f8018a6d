"""FeatureReader: reads the features of many users for serving, behind a circuit breaker; never raises."""

from collections.abc import Sequence
from time import perf_counter

import structlog

from app.metrics import FEATURE_READ_ERRORS, FEATURE_READ_SECONDS
from app.serving.circuit_breaker import CircuitBreaker
from recsys.errors import StoreUnavailable
from recsys.observability.throttle import log_throttled
from recsys.stores.users import UserStore
from recsys.users import UserFeatures

log = structlog.get_logger()


class FeatureReader:
    """Reads from the store of users, within its `read_timeout`, unless the breaker is open."""

    def __init__(self, users: UserStore, breaker: CircuitBreaker) -> None:
        self._users = users
        self._breaker = breaker

    async def read(
        self, user_ids: Sequence[str], version: str, *, shown: bool, batch: bool = False
    ) -> list[UserFeatures | None]:
        """The features of each user with the embedding of `version`; `None` where they cannot be read."""
        if not user_ids:
            return []
        if not self._breaker.allow():
            FEATURE_READ_ERRORS.labels("open").inc()
            return [None] * len(user_ids)
        began = perf_counter()
        try:
            records = await self._users.read(user_ids, version, shown=shown, batch=batch)
        except Exception as error:  # noqa: BLE001  # a bug here must not cost a user the answer
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
        # A user with an unreadable record is not a new user: the snapshot may still describe them.
        return [features if features.revision >= 0 else None for features in records]
