"""Documents: metrics and API descriptions, built at intervals and shared by all who read them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from time import monotonic

from starlette.types import Scope

from app.http.admission import Admission
from app.http.response import Headers, WholeResponse

READERS = 16
"""Of one document at a time, in one process."""
PART = 65_536
"""Bytes of a document sent at a time: a client that reads slowly holds no more in memory."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A document as it was at one time."""

    body: bytes
    headers: Headers
    etag: bytes


class Document:
    """The result of `build`, which runs in a thread; a copy is served for `interval` seconds."""

    def __init__(
        self,
        media_type: str,
        build: Callable[[], bytes],
        interval: float = inf,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._build = build
        self._interval = interval
        self._headers = {"Content-Type": media_type, "Cache-Control": "no-cache", **(headers or {})}
        self._copy: Copy | None = None
        self._stale_at = -inf
        self._making: asyncio.Task[Copy] | None = None
        self.admission = Admission(READERS)

    async def answer(self, scope: Scope, _content: bytes) -> WholeResponse:
        """The document in parts; 304 for a client that has this very copy. Raises what `build` raises."""
        copy = await self.copy()
        if any(name == b"if-none-match" and copy.etag in value for name, value in scope["headers"]):
            return WholeResponse(304, [header for header in copy.headers if header[0] != b"content-length"], (b"",))
        body = memoryview(copy.body)
        return WholeResponse(
            200, copy.headers, [body[start : start + PART] for start in range(0, len(body), PART)] or (b"",)
        )

    async def copy(self) -> Copy:
        """Raises what `build` raises."""
        if self._copy is not None and monotonic() < self._stale_at:
            return self._copy
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> Copy:
        body = await asyncio.to_thread(self._build)
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        headers = {**self._headers, "Content-Length": str(len(body)), "ETag": etag}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._copy = Copy(body, raw, etag.encode())
        self._stale_at = monotonic() + self._interval
        return self._copy
