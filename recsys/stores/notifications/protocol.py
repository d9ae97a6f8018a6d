"""Notifications: best effort word to other processes that something changed; whoever listens polls as well.

The store of items sends on `ITEMS_CHANNEL`; whoever moves an alias on `VERSIONS_CHANNEL` (the service, training and
operators), and whoever changes a placement on `PLACEMENTS_CHANNEL`. The service and ingest listen.
"""

from typing import Protocol

ITEMS_CHANNEL = "items"
VERSIONS_CHANNEL = "versions"
PLACEMENTS_CHANNEL = "placements"


class Notifications(Protocol):
    """Channels by name. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def send(self, channel: str, payload: str = "") -> None:
        """Wake every listener of `channel`; best effort, readers poll as a safety net."""
        ...

    async def wait(self, channel: str, timeout: float) -> str | None:
        """The next payload on `channel`, or `None` after `timeout` seconds.

        A first call subscribes; notifications between calls are kept (at least one of them), not lost.
        """
        ...

    async def aclose(self) -> None:
        """End every subscription."""
        ...
