"""Wait for a condition instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Protocol

INTERVAL = 0.01
PROCESS_INTERVAL = 0.05
"""Seconds between looks at another process, which has no less to do for being asked all the time."""


class WaitUntil(Protocol):
    async def __call__(self, condition: Callable[[], object], timeout: float = 10.0) -> None: ...


async def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Until `condition` (which may be async) is true; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"{condition} did not come true within {timeout} s"
        await asyncio.sleep(INTERVAL)


def wait_until_sync(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """The same outside of an event loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true within {timeout} s"
        time.sleep(PROCESS_INTERVAL)
