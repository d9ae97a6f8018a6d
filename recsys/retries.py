"""Retries: every repeated call of another system has a bound, and pauses that grow and differ between rivals."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sized
from random import uniform
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

T = TypeVar("T")
P = TypeVar("P", bound=Sized)

RIVAL_PAUSE = 0.01
"""Seconds by which the longest pause of a compare-and-set grows with each attempt."""

# Callers log and count, at most once a minute and cause: a line per attempt would fill a disk while a store is down.
set_on_retry_hooks(())


def retried(call: Callable[[], T], on: tuple[type[Exception], ...], attempts: int, pause: float) -> T:
    """The result of `call`, repeated when it raises any of `on`; the error of the last of `attempts` comes through.

    Blocks, for up to `pause` seconds between two attempts: call it from a thread.
    """
    caller = stamina.RetryingCaller(attempts=attempts, timeout=None, wait_initial=0, wait_max=pause, wait_jitter=pause)
    return caller(on, call)


async def retried_async(
    call: Callable[[], Awaitable[T]], on: Callable[[Exception], bool], attempts: int, pause: float
) -> T:
    """The result of `call`, repeated while `on` accepts its error; that of the last of `attempts` comes through.

    Pauses double from `pause` seconds on, and up to as much more by chance.
    """
    longest = pause * 2**attempts
    caller = stamina.AsyncRetryingCaller(
        attempts=attempts, timeout=None, wait_initial=pause, wait_max=longest, wait_jitter=pause
    )
    return await caller(on, call)


async def compare_and_set(pending: P, write: Callable[[P], Awaitable[P]], attempts: int) -> P:
    """Call `write` with what is `pending` until nothing is; returns what still is after `attempts`.

    `write` reads, reduces and writes, and returns the part for which another writer was faster. Pauses are random, so
    that no writer loses every race.
    """
    for attempt in range(attempts):
        if not pending:
            break
        await asyncio.sleep(uniform(0, attempt * RIVAL_PAUSE))  # noqa: S311  # no secret
        pending = await write(pending)
    return pending


def backoffs(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait before each next attempt, without end: doubled up to `longest`, a random half more or less."""
    seconds = first
    while True:
        yield seconds * uniform(0.5, 1.5)  # noqa: S311  # no secret
        seconds = min(2 * seconds, longest)
