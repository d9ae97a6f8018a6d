"""Background tasks: how one is ended."""

import asyncio
from typing import Any

PATIENCE = 0.5


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it is done; its outcome stays with the task.

    Asked again now and then, because a client library on the way can swallow a cancellation that meets its
    own time-out, and waiting for ever would hang a shutdown.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
