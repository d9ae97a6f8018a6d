"""A cursor that this service did not give out, for this question, is a 422 that names it, whatever it holds."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.http.cursor import LIFETIME, Cursors, Question, secret_of
from app.main import create_app
from app.settings import ApiKey, ServeSettings
from recsys.errors import InvalidInput
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel, Recommendation
from tests.app.conftest import KEYS, client_of
from tests.attacks.in_process import app_settings

NOBODY = Question(None, "default", "")
ASKED: dict[str, Any] = {"user_id": "u2", "k": 4, "pages": True}
module = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cursors")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(valkey_url: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """With keys: where there are none, nobody is kept from anything."""
    keys = [{"name": "shop", "sha256": sha256(KEYS["recommend"].encode()).hexdigest(), "scopes": ["recommend"]}]
    async with client_of(create_app(app_settings(valkey_url, folder, keys=keys))) as opened:
        opened.headers["X-API-Key"] = KEYS["recommend"]
        yield opened


async def page(client: httpx.AsyncClient, **asked: Any) -> httpx.Response:
    return await client.post("/recommend", json={**ASKED, **asked})


async def is_refused(client: httpx.AsyncClient, **asked: Any) -> None:
    with capture_logs() as logs:
        response = await page(client, **asked)
    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["cursor"]
    assert len(logs) <= 1
    assert "exc_info" not in str(logs)


@module
async def test_a_cursor_with_any_byte_changed_is_refused(client: httpx.AsyncClient) -> None:
    cursor = (await page(client)).json()["cursor"]
    assert (await page(client, cursor=cursor)).status_code == 200
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        await is_refused(client, cursor=urlsafe_b64encode(changed).decode().rstrip("="))


@module
@pytest.mark.parametrize(
    "other", [{"user_id": "u3"}, {"user_id": None}, {"placement": "home"}, {"filter": "price > 1"}]
)
async def test_a_cursor_continues_its_own_question_alone(client: httpx.AsyncClient, other: dict[str, Any]) -> None:
    cursor = (await page(client)).json()["cursor"]
    await is_refused(client, cursor=cursor, **other)


@module
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "A",
        "AAAA",
        "====",
        "é",
        "\x00",
        "\ud800".encode("utf-8", "replace").decode(),
        "A" * 16_384,
        "A" * 16_385,
        "-_" * 99,
    ],
)
async def test_what_is_no_cursor_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    await is_refused(client, cursor=cursor)


@module
async def test_replicas_with_the_same_keys_read_each_others_cursors(
    client: httpx.AsyncClient, valkey_url: str, folder: Path, tmp_path: Path
) -> None:
    cursor = (await page(client)).json()["cursor"]
    app = client._transport.app  # type: ignore[attr-defined]
    replica = Cursors(secret_of(app.state.services.settings))
    assert replica.ranking(Question("u2", "default", ""), cursor)[0].version == "first"


def ranking(rows: int = 3, score: float = 0.5) -> Recommendation:
    places = np.arange(rows, dtype=np.int64)
    return Recommendation(
        "first", FallbackLevel.POPULAR, places, np.full(rows, score, np.float32), (Source.POPULAR,) * rows
    )


def test_a_cursor_ends_after_an_hour() -> None:
    now = 1000.0
    cursors = Cursors(b"secret", lambda: now)
    cursor = cursors.cursor(NOBODY, "id", False, ranking())
    now += LIFETIME
    assert cursors.ranking(NOBODY, cursor)[0].recommendation_id == "id"
    now += 1
    with pytest.raises(InvalidInput, match="older than 60 minutes"):
        cursors.ranking(NOBODY, cursor)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_even_a_signed_cursor_holds_numbers(score: float) -> None:
    cursors = Cursors(b"secret")
    with pytest.raises(InvalidInput):
        cursors.ranking(NOBODY, cursors.cursor(NOBODY, "id", False, ranking(score=score)))


@given(st.one_of(st.binary(max_size=200), st.lists(st.integers() | st.binary() | st.text(), max_size=10)))
def test_even_with_a_good_signature_nothing_but_a_ranking_is_read(content: object) -> None:
    """Where no key is configured anybody can sign."""
    cursors = Cursors(b"secret")
    try:
        encoded = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    except (msgspec.ValidationError, OverflowError):
        return
    forged = urlsafe_b64encode(cursors._seal(NOBODY, encoded) + encoded).decode()
    with pytest.raises(InvalidInput) as caught:
        cursors.ranking(NOBODY, forged)
    assert caught.value.field == "cursor"


@given(rows=st.binary(max_size=30), scores=st.binary(max_size=30), sources=st.binary(max_size=8))
def test_a_ranking_whose_parts_do_not_fit_is_refused(rows: bytes, scores: bytes, sources: bytes) -> None:
    cursors = Cursors(b"secret")
    encoded = msgspec.msgpack.encode(["id", "first", "popular", False, rows, scores, sources, 2**40, 1])
    forged = urlsafe_b64encode(cursors._seal(NOBODY, encoded) + encoded).decode()
    try:
        _, rest = cursors.ranking(NOBODY, forged)
    except InvalidInput:
        return
    assert len(rest.rows) == len(rest.scores) == len(rest.sources)
    assert np.isfinite(rest.scores).all()


def test_the_secret_is_the_keys_unless_one_is_set() -> None:
    def keys(*names: str) -> tuple[ApiKey, ...]:
        made = [{"name": name, "sha256": sha256(name.encode()).hexdigest(), "scopes": ["admin"]} for name in names]
        return tuple(map(ApiKey.model_validate, made))

    first = secret_of(ServeSettings(keys=keys("a", "b")))
    assert secret_of(ServeSettings(keys=keys("b", "a"))) == first
    assert secret_of(ServeSettings(keys=keys("a"))) != first
    own = ServeSettings(keys=keys("a"), cursor_secret="s" * 16)
    assert secret_of(own) == secret_of(own.model_copy(update={"keys": keys("b")}))
    assert "s" * 16 not in repr(own)
