"""Lists of half a million entries are refused for their number, which is found out without decoding them."""

import asyncio
import json
from collections.abc import AsyncIterator
from time import thread_time
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.http.outline import MAX_ENTRY, check_count
from app.main import create_app
from recsys.errors import InvalidInput
from tests.app.conftest import client_of
from tests.attacks.in_process import app_settings

HOLD = 0.015
"""Seconds of the processor without a round of the event loop; to decode one of the lists takes up to thrice that."""
JSON = {"Content-Type": "application/json"}
NUMBERS = [1] * 500_000
OBJECTS: list[dict[str, Any]] = [{}] * 340_000
IDS = ["a"] * 250_000
FIELDS = {f"p{number}": "x" for number in range(80_000)}
LISTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("POST", "/events", "events", {"events": NUMBERS}),
    ("POST", "/events", "events", {"events": OBJECTS}),
    ("POST", "/events", "events", {"unknown": 1, "events": [{"a": "[{,", "b": [1, 2], "c": {}}, *NUMBERS[:-100]]}),
    ("PUT", "/items", "items", {"items": OBJECTS}),
    ("POST", "/recommend", "session_items", {"session_items": IDS}),
    ("POST", "/recommend", "exclude", {"exclude": NUMBERS}),
    ("POST", "/recommend", "properties", {"properties": IDS}),
    ("POST", "/recommend", "boosts", {"boosts": OBJECTS}),
    ("POST", "/recommend", "context", {"context": FIELDS}),
    ("POST", "/recommend/batch", "users", {"users": IDS}),
    ("POST", "/recommend/batch", "exclude", {"users": ["u1"], "exclude": IDS}),
    ("POST", "/explain", "cart_items", {"item_id": "i1", "cart_items": IDS}),
    ("POST", "/versions/first/recommend", "cart_items", {"cart_items": IDS}),
    ("POST", "/recommend/preview", "session_items", {"placement": {}, "session_items": IDS}),
    ("PUT", "/placements/wide", "properties", {"properties": IDS}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(app_settings(valkey_url, tmp_path_factory.mktemp("lists")))) as opened:
        yield opened


async def longest_hold(work: asyncio.Task[httpx.Response]) -> float:
    """Seconds of the processor between two rounds of the event loop, at most."""
    longest, began = 0.0, thread_time()
    while not work.done():
        await asyncio.sleep(0)
        longest, began = max(longest, thread_time() - began), thread_time()
    return longest


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("method", "path", "field", "body"), LISTS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_a_list_far_too_long_is_refused_and_holds_the_event_loop_for_a_moment(
    client: httpx.AsyncClient, method: str, path: str, field: str, body: dict[str, Any]
) -> None:
    raw = json.dumps(body, separators=(",", ":")).encode()
    holds = []
    for _ in range(3):
        work = asyncio.create_task(client.request(method, path, content=raw, headers=JSON))
        holds.append(await longest_hold(work))
        assert work.result().status_code == 422
        assert work.result().json()["errors"][0]["field"] == field
    assert min(holds) < HOLD


@pytest.mark.asyncio(loop_scope="module")
async def test_a_batch_as_long_as_may_be_with_all_that_an_item_may_have_is_taken(client: httpx.AsyncClient) -> None:
    properties = {f"property{number}": number % 2 == 0 for number in range(40)}
    items = [{"item_id": f"i{number}", "properties": properties} for number in range(1000)]
    answer = await client.put("/items", content=json.dumps({"items": items}, separators=(",", ":")), headers=JSON)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1000


@pytest.mark.parametrize("entry", ["1", '"a,b]\\"\\\\"', '{"a":[1,"}],"]}', "[]", "null", " -1.5e3 ", '"\\u00e9"'])
def test_entries_are_counted_whatever_they_are(entry: str) -> None:
    for count in range(5):
        listed = f" [{','.join([entry] * count)}]".strip().encode()
        check_count("list", listed, max(count, 1))
        if count > 1:
            with pytest.raises(InvalidInput, match="more than"):
                check_count("list", listed, count - 1)


def test_fields_of_an_object_are_counted_too() -> None:
    encoded = json.dumps({"a": "x,y", "b": ":", "c": "}"}).encode()
    check_count("context", encoded, 3)
    with pytest.raises(InvalidInput, match="more than the 2"):
        check_count("context", encoded, 2)


@pytest.mark.parametrize("entry", ["[[[1,2]]]", f'"{"a" * MAX_ENTRY}"'])
def test_an_entry_that_takes_long_to_pass_over_is_refused(entry: str) -> None:
    with pytest.raises(InvalidInput, match="nested too deep"):
        check_count("list", f"[{entry},1,1]".encode(), 2)
