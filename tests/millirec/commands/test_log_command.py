"""`millirec log` and `millirec rebuild-features` as operators use them, on a real Valkey and real tables."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millirec import main
from millirec.terminal import console
from recsys.errors import InvalidInput, NotFound
from recsys.messages.interaction import Erasure, Interaction
from recsys.settings import LogSettings, StoreSettings
from recsys.stores.event_log import InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.online import open_stores
from recsys.users import PositionedMessage

NOW = datetime.now(UTC)


@pytest.fixture
def log(tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> InteractionLog:
    """Three views of each of two users, of whom one was erased."""
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.setenv("MILLIREC_LOG__PATH", str(tmp_path / "log"))
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", str(tmp_path / "registry"))
    monkeypatch.setenv("MILLIREC_STORE__URL", store_settings.url.get_secret_value())
    monkeypatch.setenv("MILLIREC_STORE__PREFIX", store_settings.prefix)
    opened = open_interaction_log(LogSettings(path=str(tmp_path / "log")))
    for number in range(3):
        rows = [viewed(2 * number, "ada"), viewed(2 * number + 1, "bob")]
        opened.append(interaction_rows(rows), {"t-0": 2 * number + 1})
    opened.erase([PositionedMessage("t-0", 6, Erasure(event_id="please", user_id="ada", occurred_at=NOW))])
    opened.append(interaction_rows([]), {"t-0": 6})
    return opened


def viewed(offset: int, user: str) -> PositionedMessage:
    at = NOW - timedelta(hours=1) + timedelta(minutes=offset)
    one = Interaction(event_id=f"e{offset}", user_id=user, item_id=f"i{offset}", type="view", occurred_at=at)
    return PositionedMessage("t-0", offset, one)


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(main.app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def raised(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(main.app, arguments).exception


def test_tidying_says_what_it_did(log: InteractionLog) -> None:
    told = printed("log", "tidy")
    assert "before: 6 rows in 3 files" in told
    assert "after:  3 rows in 1 files" in told
    assert "3 rows deleted or moved, 0 files deleted, 0 erasures complete" in told
    assert f"versions 0 to {log.version()}: the newest has 3 rows in 1 files" in printed("log", "stats")
    assert "t-0 up to 6" in printed("log", "stats")


def test_erasures_are_listed_without_saying_whose_they_are(log: InteractionLog) -> None:
    assert printed("log", "erasures", "--json") == ""
    printed("log", "tidy")
    (receipt,) = map(json.loads, printed("log", "erasures", "--json").splitlines())
    assert (receipt["receipt"], receipt["rows"], receipt["files_deleted_at"]) == ("please", 3, None)
    table = printed("log", "erasures")
    assert "please" in table
    assert "ada" not in table


async def histories(store_settings: StoreSettings) -> dict[str, list[str]]:
    stores = open_stores(store_settings)
    found = await stores.users.read(["ada", "bob"])
    await stores.aclose()
    return {one.user_id: [entry.item_id for entry in one.history] for one in found}


def test_features_are_rebuilt_from_the_log(log: InteractionLog, store_settings: StoreSettings) -> None:
    told = printed("rebuild-features")
    assert "2 users rebuilt" in told
    assert "t-0 up to 6" in told
    assert asyncio.run(histories(store_settings)) == {"ada": [], "bob": ["i1", "i3", "i5"]}
    assert "trends were being counted already on t-0" in printed("rebuild-features", "--empty")


@pytest.mark.parametrize(
    ("since", "users"),
    [(["v1"], 2), (["v3"], 1), (["t-0:6"], 1), (["t-0:0"], 2), (["t-0:7"], 0), (["2h"], 2), (["2099-01-01"], 0)],
)
def test_a_rebuild_may_begin_anywhere(log: InteractionLog, since: list[str], users: int) -> None:
    given = [part for one in since for part in ("--from", one)]
    assert f"{users} users rebuilt" in printed("rebuild-features", "--no-trends", *given)


def test_a_beginning_that_is_none_is_refused(log: InteractionLog) -> None:
    assert isinstance(raised("rebuild-features", "--from", "yesterday"), InvalidInput)
    assert isinstance(raised("rebuild-features", "--from", "v1", "--from", "2h"), InvalidInput)
    assert isinstance(raised("rebuild-features", "--from", "v999"), NotFound)
