"""The pages of a service about itself: without a CDN, and only where they are wanted."""

import re
import threading

import httpx
import pytest

from app.http.callers import Callers
from app.http.dispatch import DispatchTable, Entry
from app.http.documents import READERS, Document
from app.http.edge import Edge
from app.http.turns import Turns
from app.main import create_app
from app.settings import AppSettings, ServeSettings
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import client_of

PAGES = ("/docs", "/openapi.json", "/asyncapi.json")


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        if path != "data:,":
            assert not path.startswith(("http", "/")), "it has to work below a path of a proxy's"
            part = await client.get(f"/{path}")
            assert part.status_code == 200
            assert part.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_documents_can_be_switched_off(settings: AppSettings, registry: ModelRegistry) -> None:
    serve = settings.serve.model_copy(update={"docs": False})
    async with client_of(create_app(settings.model_copy(update={"serve": serve}))) as client:
        for path in (*PAGES, "/docs/start.js", "/docs/swagger-ui.css", "/redoc", "/docs/oauth2-redirect"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("path", ["/recommend/", "/health/live/", "/versions/", "/docs/", "/users/u1/", "/metrics/"])
async def test_a_trailing_slash_leads_nowhere(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = await client.request(method, path, json={})
        assert answer.status_code in (404, 405), answer.text
        assert "location" not in answer.headers
        if answer.status_code == 404 and method != "HEAD":
            assert "none of them ends with a slash" in answer.json()["detail"]


async def test_more_readers_than_there_is_room_for_are_turned_away_and_the_others_share_one_making() -> None:
    makings: list[int] = []
    go_on = threading.Event()

    def build() -> bytes:
        makings.append(1)
        assert go_on.wait(30)
        return b"text"

    slow = httpx.ASGITransport(edge_of("/slow", Document("text/plain", build)))
    async with httpx.AsyncClient(transport=slow, base_url="http://localhost", timeout=30.0) as client:
        import asyncio

        readers = [asyncio.create_task(client.get("/slow")) for _ in range(READERS + 3)]
        done, _ = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        assert {one.result().status_code for one in done} == {503}
        go_on.set()
        statuses = [one.status_code for one in await asyncio.gather(*readers)]
    assert statuses.count(200) == READERS
    assert statuses.count(503) == 3
    assert makings == [1]


async def test_a_document_that_cannot_be_made_is_a_problem_and_tried_anew() -> None:
    makings: list[int] = []

    def build() -> bytes:
        makings.append(1)
        if len(makings) == 1:
            raise OSError("gone")
        return b"text"

    transport = httpx.ASGITransport(edge_of("/some", Document("text/plain", build)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/some")).status_code == 500
        assert (await client.get("/some")).text == "text"
        assert (await client.get("/some")).text == "text"
    assert makings == [1, 1]


def edge_of(path: str, document: Document) -> Edge:
    """An edge with this document alone."""
    table, serve = DispatchTable(), ServeSettings()
    table.add("GET", Entry(path, document.answer, admission=document.admission, keeps_slot=True))
    return Edge(table, Callers(serve), Turns(), serve)
