"""A service that starts while the registry is away answers from the version it served last."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from app.main import create_app
from app.metrics import LOAD_FAILURES
from app.settings import AppSettings
from app.versions import index_watcher
from recsys.background import DeadlineRunner
from recsys.clients.objects import Objects
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.local_copy import remember, remembered
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from tests.app.conftest import client_of
from tests.environment.waiting import WaitUntil


async def served(settings: AppSettings) -> str | None:
    """The version that answers after a start, `None` without one."""
    async with client_of(create_app(settings)) as client:
        response = await client.get("/recommend", params={"user_id": "u2"})
    return str(response.json()["index_version"]) if response.status_code == 200 else None


def take_away(settings: AppSettings, leave: str) -> Path:
    """The registry's folder is gone, empty, or no folder at all; where it is now."""
    folder = Path(settings.registry.url)
    aside = folder.with_name("aside")
    folder.rename(aside)
    if leave == "empty":
        folder.mkdir()
    elif leave == "file":
        folder.write_text("a file where a folder should be")
    return aside


def put_back(settings: AppSettings, aside: Path) -> None:
    folder = Path(settings.registry.url)
    folder.unlink()
    aside.rename(folder)


@pytest.mark.parametrize("leave", ["nothing", "empty", "file"])
async def test_the_version_served_last_is_served_without_a_registry(
    settings: AppSettings, registry: ModelRegistry, leave: str
) -> None:
    promote(registry, "second", actor="test", reason="better")
    assert await served(settings) == "second"
    take_away(settings, leave)
    assert await served(settings) == "second"


async def test_a_registry_that_comes_back_is_followed_again(
    settings: AppSettings, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    assert await served(settings) == "first"
    aside = take_away(settings, "file")
    async with client_of(create_app(settings)) as client:
        assert (await client.get("/health/ready")).json()["index_version"] == "first"
        put_back(settings, aside)
        promote(registry, "second", actor="test", reason="back again")

        async def moved() -> bool:
            return bool((await client.get("/health/ready")).json()["index_version"] == "second")

        await wait_until(moved)


@pytest.mark.parametrize("damage", ["no record", "unreadable record", "damaged copy", "no copy"])
async def test_nothing_is_served_that_does_not_hold(
    settings: AppSettings, registry: ModelRegistry, damage: str
) -> None:
    assert await served(settings) == "first"
    take_away(settings, "nothing")
    cache = settings.registry.cache
    record, copy = cache / "recommender" / ".served-live.json", cache / "recommender" / "first"
    match damage:
        case "no record":
            record.unlink()
        case "unreadable record":
            record.write_bytes(b'{"version": "../first"}')
        case "damaged copy":
            (copy / "item_factors.npy").write_bytes(b"damaged")
        case "no copy":
            shutil.rmtree(copy)
    assert await served(settings) is None
    assert remembered(cache, "recommender", "live") is None


async def test_a_version_that_is_refused_at_the_start_leaves_the_one_before_in_service(
    settings: AppSettings, registry: ModelRegistry
) -> None:
    assert await served(settings) == "first"
    promote(registry, "second", actor="test", reason="nobody looked")
    (Path(settings.registry.url) / "models" / "recommender" / "versions" / "second" / "items.faiss").write_bytes(
        b"damaged"
    )
    assert await served(settings) == "first"


class Stuck(ObjectStoreModelRegistry):
    """A registry on a file system that has stopped answering."""

    def __init__(self, url: str, let_go: threading.Event) -> None:
        super().__init__(Objects(url))
        self._let_go = let_go
        self.asked: list[str] = []

    def alias(self, alias: str) -> None:
        self.asked.append(alias)
        self._let_go.wait(30)


async def test_a_registry_that_hangs_delays_a_start_by_its_deadline_and_holds_one_thread(
    settings: AppSettings, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    assert await served(settings) == "first"
    let_go = threading.Event()
    stuck = Stuck(settings.registry.url, let_go)
    monkeypatch.setattr(index_watcher, "READ_DEADLINE", 0.05)
    monkeypatch.setattr("app.main.open_model_registry", lambda *_, **__: stuck)
    try:
        async with client_of(create_app(settings)) as client:
            assert (await client.get("/health/ready")).json()["index_version"] == "first"
            before = LOAD_FAILURES.labels("registry_unavailable")._value.get()
            await wait_until(lambda: LOAD_FAILURES.labels("registry_unavailable")._value.get() >= before + 2)
            assert stuck.asked == ["live"]
    finally:
        let_go.set()


async def test_a_bounded_call_gives_what_the_call_gives() -> None:
    calls = DeadlineRunner()
    assert await calls.run(5.0, sorted, [2, 1]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        await calls.run(5.0, divmod, 1, 0)


async def test_after_a_call_that_hung_others_are_made_once_it_has_ended(wait_until: WaitUntil) -> None:
    calls, let_go = DeadlineRunner(), threading.Event()
    with pytest.raises(TimeoutError):
        await calls.run(0.01, let_go.wait, 30)
    with pytest.raises(TimeoutError):
        await calls.run(5.0, sorted, [])
    let_go.set()

    async def works() -> bool:
        try:
            return await calls.run(5.0, sorted, []) == []
        except TimeoutError:
            return False

    await wait_until(works)


async def test_calls_run_beside_each_other() -> None:
    calls, barrier = DeadlineRunner(), threading.Barrier(2)
    await asyncio.gather(*(calls.run(5.0, barrier.wait, 5) for _ in range(2)))


def test_a_record_that_cannot_be_written_stops_nothing(registry: ModelRegistry, tmp_path: Path) -> None:
    remember(tmp_path / "nowhere", "live", registry.manifest("first"))
    assert remembered(tmp_path / "nowhere", "recommender", "live") is None
