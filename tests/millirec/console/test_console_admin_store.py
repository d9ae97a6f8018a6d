"""The console's own look at the log: dead letters, imports and what the gate checked."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from millirec.console.service.admin_store import AdminStore
from millirec.settings import Settings
from recsys.errors import LogUnavailable
from recsys.settings import LogSettings, RegistrySettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal, Status

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        log=LogSettings(path=str(tmp_path / "log")), registry=RegistrySettings(url=str(tmp_path / "registry"))
    )


async def test_a_letter_is_read_and_given_up_with_who_and_why(settings: Settings) -> None:
    open_dead_letters(settings.log).dead_letter([Refusal("is no JSON", "message", "p", 1, b"\xff", NOW)])
    admin_store = AdminStore(settings)
    [letter] = await admin_store.letters(LetterQuery())
    content = await admin_store.content(letter)
    assert content is not None
    assert content.value == b"\xff"
    await admin_store.discard([letter], "ada", "played")
    [discarded] = await admin_store.letters(LetterQuery(Status.DISCARDED))
    assert (discarded.by, discarded.why, await admin_store.content(discarded)) == ("ada", "played", None)


async def test_where_nothing_is_there_yet_nothing_is_told(settings: Settings) -> None:
    admin_store = AdminStore(settings)
    assert await admin_store.letters(LetterQuery()) == []
    assert await admin_store.newest_checks() is None
    assert admin_store.lacks_log() == settings.log.path


async def test_a_log_that_cannot_be_read_is_unavailable(settings: Settings, tmp_path: Path) -> None:
    commit = tmp_path / "log" / "dead_letters" / "_delta_log" / f"{0:020d}.json"
    commit.parent.mkdir(parents=True)
    commit.write_text("no commit")
    with pytest.raises(LogUnavailable):
        await AdminStore(settings).letters(LetterQuery())
