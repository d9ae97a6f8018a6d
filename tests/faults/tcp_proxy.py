"""A TCP proxy on loopback, in a thread of its own, whose connections a test delays, cuts, swallows or poisons."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that sends RST."""


class Mode(StrEnum):
    PASS = "pass"  # noqa: S105  # no password
    DELAY = "delay"
    BLACKHOLE = "blackhole"
    REFUSE = "refuse"
    GARBAGE = "garbage"


class TcpProxy:
    """Forwards to `upstream`, `host:port` or the path of a socket. Its methods return once they are in force."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._mode = Mode.PASS
        self._seconds = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Server | None = None
        self._flapping: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def passes(self) -> None:
        """Back to a plain proxy; connections that were poisoned are cut."""
        self._run(self._switch(Mode.PASS))

    def delays(self, seconds: float) -> None:
        """Every answer comes so much later."""
        self._run(self._switch(Mode.DELAY, seconds))

    def swallows(self) -> None:
        """Connections are made, old ones stay, and nothing ever comes back."""
        self._run(self._switch(Mode.BLACKHOLE))

    def cuts(self) -> None:
        """Every connection is reset, once; new ones work."""
        self._run(self._reset())

    def refuses(self) -> None:
        """Every connection is reset, and nobody listens."""
        self._run(self._switch(Mode.REFUSE))

    def answers_garbage(self) -> None:
        """Answer every request with random bytes."""
        self._run(self._switch(Mode.GARBAGE))

    def flaps(self, period: float) -> None:
        """Refuses for half of each period of seconds, until the next change."""
        self._run(self._start_flapping(period))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _switch(self, mode: Mode, seconds: float = 0.0, *, flapping: bool = False) -> None:
        if self._flapping is not None and not flapping:
            self._flapping.cancel()
            self._flapping = None
        poisoned = self._mode in {Mode.BLACKHOLE, Mode.GARBAGE}
        self._mode, self._seconds = mode, seconds
        if mode is Mode.REFUSE:
            await self._close()
        else:
            await self._listen()
        if poisoned or mode is Mode.REFUSE:
            await self._reset()

    async def _start_flapping(self, period: float) -> None:
        await self._switch(Mode.PASS)
        self._flapping = asyncio.create_task(self._flap(period / 2))

    async def _flap(self, half: float) -> None:
        while True:
            await self._switch(Mode.REFUSE, flapping=True)
            await asyncio.sleep(half)
            await self._switch(Mode.PASS, flapping=True)
            await asyncio.sleep(half)

    async def _reset(self) -> None:
        for writer in list(self._open):
            connection: socket.socket = writer.get_extra_info("socket")
            if connection.family != socket.AF_UNIX:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _end(self) -> None:
        await self._switch(Mode.REFUSE)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        self._open.add(writer)
        try:
            there, back = await self._connect()
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self._open.add(back)
        pumps = [
            asyncio.create_task(self._pump(reader, back, writer, to_client=False)),
            asyncio.create_task(self._pump(there, writer, writer, to_client=True)),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, back):
            self._open.discard(one)
            one.close()
        await asyncio.wait(pumps)
        self._tasks.difference_update(pumps)
        self._tasks.discard(asyncio.current_task())

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self._upstream.rpartition(":")
        if not host:
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection(host, int(port))

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter, *, to_client: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                if self._mode is Mode.BLACKHOLE:
                    continue
                if self._mode is Mode.GARBAGE:
                    client.write(os.urandom(64) + b"\r\n")
                    continue
                if self._mode is Mode.DELAY and to_client:
                    await asyncio.sleep(self._seconds)
                sink.write(chunk)
                await sink.drain()


@contextmanager
def proxying(upstream: str) -> Iterator[TcpProxy]:
    proxy = TcpProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
