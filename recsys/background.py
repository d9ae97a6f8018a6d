"""Background work: how a task is ended, and how a call that may hang is given up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

PATIENCE = 0.5
T = TypeVar("T")


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it is done; its outcome stays with the task.

    Asked again now and then, because a client library on the way can swallow a cancellation that meets its
    own time-out, and waiting without end would hang a shutdown.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)


class DeadlineRunner:
    """Runs blocking calls in threads that neither a deadline nor the end of the process waits for.

    A call that outlives its deadline goes on in its thread. Until it ends no other is made, so that a system that
    hangs costs one thread and not one per attempt.
    """

    def __init__(self) -> None:
        self._hanging: Future[Any] | None = None

    async def run(self, deadline: float, call: Callable[..., T], *arguments: object) -> T:
        """The result of `call`, whose errors it raises as well. Raises `TimeoutError` after `deadline` seconds."""
        if self._hanging is not None and not self._hanging.done():
            raise TimeoutError
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        Thread(target=_fulfil, args=(future, call, arguments), daemon=True).start()
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            self._hanging = future
            raise


def _fulfil(future: Future[T], call: Callable[..., T], arguments: tuple[object, ...]) -> None:
    try:
        future.set_result(call(*arguments))
    except BaseException as error:  # noqa: BLE001  # it is raised for the waiter
        future.set_exception(error)
