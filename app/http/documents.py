"""Documents: metrics and API descriptions, built at intervals and served without FastAPI's machinery."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from time import monotonic, perf_counter

from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.admission import Admission
from app.http.callers import ANYBODY
from app.http.problems import problem_of, problem_response
from app.http.schemas.events import Problem
from app.metrics import REQUEST_SECONDS, REQUESTS

READERS = 16
"""Of one document at a time, in one process."""
PART = 65_536
"""Bytes of a document sent at a time: a client that reads slowly holds no more in memory."""
METHODS = frozenset({"GET", "HEAD"})
NOT_ALLOWED = problem_response(
    Problem("Method not allowed", 405, "this document can only be read"), {"Allow": "GET, HEAD"}
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A document as it was at one time."""

    body: bytes
    headers: list[tuple[bytes, bytes]]
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


class Documents:
    """ASGI application before `app`. Each document has its own admission, so that many readers block nothing else."""

    def __init__(self, app: ASGIApp, documents: Mapping[str, Document]) -> None:
        self._app = app
        self._documents = documents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = self._documents.get(scope["path"]) if scope["type"] == "http" else None
        if document is None:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status = await self._answer(document, scope, receive, send)
        method = scope["method"] if scope["method"] in METHODS else "other"
        REQUESTS.labels(scope["path"], method, str(status)).inc()
        REQUEST_SECONDS.labels(scope["path"]).observe(perf_counter() - began)

    async def _answer(self, document: Document, scope: Scope, receive: Receive, send: Send) -> int:
        """The status it answers with."""
        if scope["method"] not in METHODS:
            await NOT_ALLOWED(scope, receive, send)
            return NOT_ALLOWED.status_code
        try:
            with document.admission.slot(ANYBODY):
                return await _send_copy(await document.copy(), scope, send)
        except Exception as error:  # noqa: BLE001  # the last resort: a logged problem
            problem = problem_of(error, scope["path"])
            await problem(scope, receive, send)
            return problem.status_code


async def _send_copy(copy: Copy, scope: Scope, send: Send) -> int:
    fresh = any(name == b"if-none-match" and copy.etag in value for name, value in scope["headers"])
    if fresh:
        headers = [header for header in copy.headers if header[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return 304
    await send({"type": "http.response.start", "status": 200, "headers": copy.headers})
    body = memoryview(copy.body) if scope["method"] == "GET" else memoryview(b"")
    for start in range(0, len(body), PART):
        await send({"type": "http.response.body", "body": bytes(body[start : start + PART]), "more_body": True})
        # Copying is work too: the others' requests come in between.
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})
    return 200
