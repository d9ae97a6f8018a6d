"""The online stores, opened together on one connection pool; programs hand each part the stores that it needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.settings import StoreSettings
from recsys.stores.counters import CounterStore
from recsys.stores.heartbeats import HeartbeatStore
from recsys.stores.items import ItemStore
from recsys.stores.notifications import Notifications
from recsys.stores.outcomes import OutcomeStore
from recsys.stores.trends import TrendStore
from recsys.stores.users import UserStore

if TYPE_CHECKING:
    from recsys.clients.redis import Exchange


@dataclass(frozen=True, slots=True)
class Stores:
    """The online stores of one server; `server` is `None` in memory."""

    users: UserStore
    items: ItemStore
    trends: TrendStore
    counters: CounterStore
    outcomes: OutcomeStore
    heartbeats: HeartbeatStore
    notifications: Notifications
    server: "Exchange | None" = None

    async def ping(self) -> None:
        """Check that the server answers. Raises `StoreUnavailable`."""
        if self.server is not None:
            await self.server.ping()

    async def aclose(self) -> None:
        """Close the subscriptions and the connections."""
        await self.notifications.aclose()
        if self.server is not None:
            await self.server.aclose()


def open_stores(settings: StoreSettings) -> Stores:
    """The stores on the backend that `settings.backend` names; they connect on first use."""
    return memory_stores() if settings.backend == "memory" else _redis_stores(settings)


def memory_stores() -> Stores:
    """Empty stores inside this process."""
    from recsys.stores.counters.memory import MemoryCounterStore
    from recsys.stores.heartbeats.memory import MemoryHeartbeatStore
    from recsys.stores.items.memory import MemoryItemStore
    from recsys.stores.notifications.memory import MemoryNotifications
    from recsys.stores.outcomes.memory import MemoryOutcomeStore
    from recsys.stores.trends.memory import MemoryTrendStore
    from recsys.stores.users.memory import MemoryUserStore

    notifications = MemoryNotifications()
    return Stores(
        users=MemoryUserStore(),
        items=MemoryItemStore(notifications),
        trends=MemoryTrendStore(),
        counters=MemoryCounterStore(),
        outcomes=MemoryOutcomeStore(),
        heartbeats=MemoryHeartbeatStore(),
        notifications=notifications,
    )


def _redis_stores(settings: StoreSettings) -> Stores:
    from recsys.clients.redis import Exchange
    from recsys.stores.counters.redis import RedisCounterStore
    from recsys.stores.heartbeats.redis import RedisHeartbeatStore
    from recsys.stores.items.redis import RedisItemStore
    from recsys.stores.notifications.redis import RedisNotifications
    from recsys.stores.outcomes.redis import RedisOutcomeStore
    from recsys.stores.trends.redis import RedisTrendStore
    from recsys.stores.users.redis import RedisUserStore

    server = Exchange(settings)
    notifications = RedisNotifications(server, settings)
    return Stores(
        users=RedisUserStore(server, settings),
        items=RedisItemStore(server, notifications, settings),
        trends=RedisTrendStore(server, settings.prefix),
        counters=RedisCounterStore(server, settings.prefix),
        outcomes=RedisOutcomeStore(server, settings.prefix),
        heartbeats=RedisHeartbeatStore(server, settings.prefix),
        notifications=notifications,
        server=server,
    )
