"""What commands of operators share: who acts, and a notification of the replicas."""

import getpass
import os

from millirec.settings import Settings
from millirec.terminal import errors
from recsys.errors import StoreUnavailable
from recsys.stores.feature_store import open_feature_store


def actor_name() -> str:
    """Return the user who runs the command, for audit logs; `uid 1000650000` where the uid has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


async def notify(settings: Settings, channel: str, payload: str) -> None:
    """Notify the replicas now; without the store they find out by polling."""
    store = open_feature_store(settings.store)
    try:
        await store.notify(channel, payload)
    except StoreUnavailable as error:
        errors.print(f"replicas could not be notified and will notice by polling: {error}", highlight=False)
    finally:
        await store.aclose()
