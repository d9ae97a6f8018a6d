"""What commands of operators share: who acts, and a notification of the replicas."""

import getpass
import os

from millirec.settings import Settings
from millirec.terminal import errors
from recsys.errors import StoreUnavailable
from recsys.stores.online import open_stores


def actor_name() -> str:
    """Return the user who runs the command, for audit logs; `uid 1000650000` where the uid has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


async def notify(settings: Settings, channel: str, payload: str) -> None:
    """Notify the replicas now; without the store they find out by polling."""
    stores = open_stores(settings.store)
    try:
        await stores.notifications.send(channel, payload)
    except StoreUnavailable as error:
        errors.print(f"replicas could not be notified and will notice by polling: {error}", highlight=False)
    finally:
        await stores.aclose()
