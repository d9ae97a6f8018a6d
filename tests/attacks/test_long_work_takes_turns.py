"""Long requests hold nobody up: a piece of their work is done per round of the event loop, and callers take turns."""

import asyncio
import json

import httpx
import pytest

from app.http.turns import CALLER, Turns
from tests.attacks.conftest import KEYS

LONG = 8
"""Long requests at the same time."""


async def rounds_during(work: asyncio.Future[list[httpx.Response]]) -> int:
    """How often the event loop went round, which is how often somebody else could have been answered."""
    rounds = 0
    while not work.done():
        rounds += 1
        await asyncio.sleep(0)
    return rounds


async def test_a_batch_of_a_thousand_events_is_looked_at_in_pieces(guarded_client: httpx.AsyncClient) -> None:
    body = json.dumps({"events": [{"user_id": f"u{number}", "item_id": ""} for number in range(1000)]})
    work = asyncio.gather(
        *(guarded_client.post("/events", content=body, headers={"X-API-Key": KEYS["events"]}) for _ in range(LONG))
    )
    assert await rounds_during(work) > LONG * 16
    assert {answer.status_code for answer in work.result()} == {422}


async def test_five_hundred_items_are_read_in_pieces(guarded_client: httpx.AsyncClient) -> None:
    path = "/items?" + "&".join(f"item_id=i{number}" for number in range(500))
    work = asyncio.gather(*(guarded_client.get(path, headers={"X-API-Key": KEYS["catalogue"]}) for _ in range(LONG)))
    assert await rounds_during(work) > LONG * 12
    assert {answer.status_code for answer in work.result()} == {200}


async def test_callers_take_turns_however_many_requests_each_has() -> None:
    turns, order = Turns(), list[str]()

    async def work(caller: str, name: str, pieces: int) -> None:
        for piece in range(pieces):
            await turns.turn({CALLER: caller}, next_piece=piece > 0)
            order.append(name)

    await asyncio.gather(work("hog", "h1", 3), work("hog", "h2", 3), work("hog", "h3", 3), work("shop", "s1", 2))
    assert order == ["h1", "s1", "h1", "s1", "h1", "h2", "h2", "h2", "h3", "h3", "h3"]


async def test_whoever_hung_up_while_waiting_takes_no_turn() -> None:
    turns = Turns()
    gone, stays = (asyncio.create_task(turns.turn({CALLER: "a"})) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(stays, 10.0)
    with pytest.raises(asyncio.CancelledError):
        await gone
