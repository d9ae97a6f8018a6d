"""Long requests hold nobody up: a piece of their work is done per round of the event loop, and callers take turns."""

import asyncio
import json
from itertools import count
from typing import Any

import httpx
import pytest
from starlette.types import Scope as Connection

from app.http.turns import CALLER, Turns
from app.main import create_app
from app.settings import AppSettings
from recsys.filters.expression import compile_expression
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import client_of
from tests.attacks.conftest import KEYS

fresh = count()
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


OPERATORS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/versions/first/recommend", {"user_id": "u1", "explain": True}),
    ("POST", "/recommend/preview", {"placement": {}, "user_id": "u1", "explain": True}),
]
TRACED: list[tuple[str, str, dict[str, Any]]] = [
    *OPERATORS,
    ("POST", "/recommend", {"user_id": "u1", "explain": True}),
    ("POST", "/explain", {"user_id": "u1", "item_id": "i1"}),
]


@pytest.mark.parametrize(("method", "path", "body"), TRACED)
async def test_an_answer_with_reasons_waits_for_its_turn(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: dict[str, Any]
) -> None:
    held, taken = asyncio.Event(), Turns.turn

    async def turn(turns: Turns, connection: Connection, *, next_piece: bool = False) -> None:
        """Somebody else's turn until the event is set."""
        await held.wait()
        await taken(turns, connection, next_piece=next_piece)

    monkeypatch.setattr(Turns, "turn", turn)
    work = asyncio.create_task(client.request(method, path, json=body))
    _, waiting = await asyncio.wait([work], timeout=0.3)
    assert waiting, "it was answered out of turn"
    held.set()
    assert (await work).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), [*OPERATORS, ("PUT", "/placements/mine", {"k": 5})])
async def test_what_operators_ask_has_a_slot_from_its_expressions_on(
    settings: AppSettings, registry: ModelRegistry, method: str, path: str, body: dict[str, Any]
) -> None:
    texts = [f"price < {next(fresh)} or {'available and ' * 30} price > {number}" for number in range(20)]
    serve = settings.serve.model_copy(update={"max_in_flight": 1})

    def asked(text: str) -> dict[str, Any]:
        """The same with an expression that nobody compiled yet."""
        of_placement = path.endswith("preview")
        return {**body, "placement": {"filter": text}} if of_placement else {**body, "filter": text}

    async with client_of(create_app(settings.model_copy(update={"serve": serve}))) as client:
        compiled = compile_expression.cache_info().misses
        answers = await asyncio.gather(*(client.request(method, path, json=asked(text)) for text in texts))
        compiled = compile_expression.cache_info().misses - compiled
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert compiled == statuses.count(200) < len(texts), "of those that are refused nothing is compiled"
