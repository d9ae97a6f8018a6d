"""Notify the replicas of the service of what has changed."""

from millirec.settings import Settings
from millirec.terminal import errors
from recsys.errors import StoreUnavailable
from recsys.stores.feature_store import open_feature_store


async def notify(settings: Settings, channel: str, payload: str) -> None:
    """Notify the replicas now; without the store they find out by polling."""
    store = open_feature_store(settings.store)
    try:
        await store.notify(channel, payload)
    except StoreUnavailable as error:
        errors.print(f"replicas could not be told and will notice by polling: {error}", highlight=False)
    finally:
        await store.aclose()
