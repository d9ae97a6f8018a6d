"""Dead letters, imports and comparisons over HTTP, for operators only, on a real log, topic and registry."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import ApiKey, Scope, ServeSettings
from ingest.batch.file_import import import_files
from ingest.settings import IngestSettings
from millirec.admin.routes import operator_routes
from millirec.settings import Settings
from recsys.settings import LogSettings, RegistrySettings, StoreSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal, Status
from recsys.stores.event_log import open_interaction_log
from recsys.stores.model_registry import open_model_registry
from recsys.stores.topic import open_interaction_topic
from tests.app.conftest import client_of
from tests.environment.versions import publish_small_version

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEYS = {Scope.ADMIN: "a" * 20, Scope.RECOMMEND: "r" * 20}
ADMIN = {"X-API-Key": KEYS[Scope.ADMIN], "Content-Type": "application/json"}
MESSAGE = b'{"kind":"interaction","user_id":"u","item_id":"i","type":"view","event_id":"e"}'
PATHS = ["/dead-letters", "/dead-letters/00c0ffee00c0ffee/message", "/imports", "/versions/first/difference/second"]


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path) -> Settings:
    keys = tuple(
        ApiKey(name=scope.value, sha256=sha256(key.encode()).hexdigest(), scopes=frozenset({scope}))
        for scope, key in KEYS.items()
    )
    return Settings(
        serve=ServeSettings(keys=keys),
        store=store_settings,
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
        ingest=IngestSettings(rejected=tmp_path / "rejected"),
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings.app(), more_routers=operator_routes(settings))) as opened:
        opened.headers.update(ADMIN)
        yield opened


def dead_letter(settings: Settings, value: bytes = MESSAGE) -> str:
    letters = open_dead_letters(settings.log)
    letters.dead_letter([Refusal("is missing", "occurred_at", "p", 1, value, NOW, "u", {"format": b"\xff"})])
    return letters.letters(LetterQuery())[0].letter


async def test_a_letter_is_listed_looked_into_and_discarded_with_who_and_why(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    letter = dead_letter(settings, b"\xff")
    [listed] = (await client.get("/dead-letters")).json()["letters"]
    assert (listed["letter"], listed["field"], listed["status"]) == (letter, "occurred_at", "waiting")
    content = (await client.get(f"/dead-letters/{letter}/message")).json()
    assert base64.b64decode(content["value"]) == b"\xff"
    assert base64.b64decode(content["headers"]["format"]) == b"\xff"
    body = {"letters": [letter], "reason": "played", "person": "ada"}
    assert (await client.post("/dead-letters/discard", json=body)).json() == {"changed": 1}
    [discarded] = open_dead_letters(settings.log).letters(LetterQuery(Status.DISCARDED))
    assert (discarded.by, discarded.why) == ("admin (for ada)", "played")
    assert (await client.get(f"/dead-letters/{letter}/message")).json()["value"] is None
    assert (await client.get("/dead-letters")).json() == {"letters": []}
    assert len((await client.get("/dead-letters", params={"status": "all"})).json()["letters"]) == 1


async def test_a_replayed_message_is_on_the_topic_again_as_it_came(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    letter = dead_letter(settings)
    assert (await client.post("/dead-letters/replay", json={"letters": [letter]})).json() == {"changed": 1}
    async with open_interaction_topic(settings.topic, settings.store).consumer("test") as consumer:
        [delivered] = await consumer.poll(10, 10.0)
    assert (delivered.value, delivered.headers["format"]) == (MESSAGE, b"\xff")
    assert [known.status for known in open_dead_letters(settings.log).letters(LetterQuery(None))] == [Status.REPLAYED]


async def test_a_letter_that_does_not_exist_changes_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    letter = dead_letter(settings)
    body = {"letters": [letter, "00c0ffee00c0ffee"], "reason": "played"}
    answer = await client.post("/dead-letters/discard", json=body)
    assert (answer.status_code, "00c0ffee00c0ffee" in answer.json()["detail"]) == (404, True)
    assert [known.letter for known in open_dead_letters(settings.log).letters(LetterQuery())] == [letter]


async def test_where_there_is_no_log_yet_the_answer_says_so(client: httpx.AsyncClient, settings: Settings) -> None:
    for path in PATHS[:2]:
        answer = await client.get(path)
        assert answer.status_code == 404
        assert settings.log.path in answer.json()["detail"]
    assert (await client.get("/imports")).json() == {"imports": []}


async def test_a_log_that_cannot_be_read_is_unavailable(client: httpx.AsyncClient, tmp_path: Path) -> None:
    commit = tmp_path / "log" / "dead_letters" / "_delta_log" / f"{0:020d}.json"
    commit.parent.mkdir(parents=True)
    commit.write_text("no commit")
    answer = await client.get("/dead-letters")
    assert (answer.status_code, answer.json()["title"]) == (503, "Temporarily unavailable")


async def test_an_import_is_told_row_by_row(client: httpx.AsyncClient, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("user_id,item_id,type,occurred_at\nu,i,view,2026-11-01T10:00:00Z\n,i,view,2026-11-01T10:00:00Z\n")
    import_files([file], None, open_interaction_log(settings.log), settings.ingest)
    [told] = (await client.get("/imports")).json()["imports"]
    assert (told["rows"], told["accepted"], sum(told["rejected"].values())) == (2, 1, 1)
    assert told["first"] == told["last"] == "2026-11-01T10:00:00Z"


async def test_two_versions_are_compared_in_a_process_of_their_own(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_model_registry(settings.registry)
    for seed, version in enumerate(("first", "second")):
        publish_small_version(registry, tmp_path / "built", version, seed=seed)
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", settings.registry.url)
    monkeypatch.setenv("MILLIREC_REGISTRY__CACHE", str(settings.registry.cache))
    difference = (await client.get("/versions/first/difference/second")).json()
    assert (difference["a"], difference["b"]) == ("first", "second")
    assert difference["items"]["common"] > 0
    assert (await client.get("/versions/first/difference/third")).status_code == 404
    assert (await client.get("/versions/first/checks")).json() == {"version": "first", "checks": []}


@pytest.mark.parametrize("path", PATHS)
async def test_operators_alone_may_ask(client: httpx.AsyncClient, path: str) -> None:
    for key, status in ((KEYS[Scope.RECOMMEND], 403), ("x" * 20, 401)):
        assert (await client.get(path, headers={"X-API-Key": key})).status_code == status


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/dead-letters/replay", {"letters": []}, "letters"),
        ("/dead-letters/replay", {"letters": ["../../x"]}, "letters"),
        ("/dead-letters/discard", {"letters": ["0" * 16]}, "reason"),
        ("/dead-letters/discard", {"letters": ["0" * 16] * 1001, "reason": "many"}, "letters"),
    ],
)
async def test_what_is_malformed_is_refused_by_field(
    client: httpx.AsyncClient, path: str, body: dict[str, object], field: str
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert field in answer.text
