"""Reporter: stores every few seconds what this process is about, and that it ended."""

import asyncio
import os
import platform
from collections.abc import Callable
from contextlib import suppress

from recsys.errors import StoreUnavailable
from recsys.stores.heartbeats.protocol import Heartbeat, HeartbeatStore

REPORT_SECONDS = 2.0


class Reporter:
    """Reports the heartbeat that `heartbeat()` returns, every `REPORT_SECONDS`."""

    def __init__(self, store: HeartbeatStore, heartbeat: Callable[[], Heartbeat]) -> None:
        self._store = store
        self._heartbeat = heartbeat

    async def run(self) -> None:
        """Report until cancelled, then leave; a store that is unavailable is ignored."""
        try:
            while True:
                with suppress(StoreUnavailable):
                    await self._store.report(self._heartbeat())
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            with suppress(StoreUnavailable):
                await self._store.leave(self._heartbeat().process)


def process_name(part: str = "") -> str:
    """This process, among those of all machines; `part` of it, where several report."""
    return ":".join(filter(None, (platform.node(), str(os.getpid()), part)))
