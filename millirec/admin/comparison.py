"""Comparisons of two versions, in a process of their own: both artefacts are read, and some hundred users answered."""

import asyncio
import sys

import structlog

from recsys.errors import RegistryUnavailable, Unavailable

log = structlog.get_logger()
PATIENCE = 120.0
"""Seconds that reading both artefacts and answering some hundred users may take."""
WAITING = 4
"""Comparisons that wait for the one at work; more are refused."""


class Comparisons:
    """Runs `millirec versions diff`, once at a time, since a comparison holds both versions in memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def compare(self, model: str, first: str, second: str) -> bytes:
        """Return what `versions diff --json` prints. Raises `Unavailable` when too many wait."""
        if self._waiting > WAITING:
            raise Unavailable("other comparisons are at work; try again when they are done")
        self._waiting += 1
        try:
            async with self._turn:
                return await _difference(model, first, second)
        finally:
            self._waiting -= 1


async def _difference(model: str, first: str, second: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "millirec", "versions", "diff", first, second, "--model", model, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), PATIENCE)
    except TimeoutError as expired:
        raise RegistryUnavailable("comparing took too long; near the registry: millirec versions diff") from expired
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("comparing versions failed", error=error.decode(errors="replace")[-2000:])
        raise RegistryUnavailable("the versions could not be read; the service's log says why")
    return out
