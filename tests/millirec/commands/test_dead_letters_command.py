"""`millirec dead-letters` as operators use it; replaying is in the journeys."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from millirec.commands import dead_letters
from millirec.terminal import console
from recsys.errors import InvalidInput, NotFound
from recsys.settings import LogSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import DeadLetters, LetterQuery, Refusal, Status

NOW = datetime.now(UTC)


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetters:
    monkeypatch.setenv("MILLIREC_LOG__PATH", str(tmp_path / "log"))
    monkeypatch.setattr(console, "width", 200)
    opened = open_dead_letters(LogSettings(path=str(tmp_path / "log")))
    refused = [("no [bold] JSON", "message", b"\xff[bold]"), ("is in the future", "occurred_at", b'{"a":"\xc3\xb6"}')]
    opened.dead_letter(
        [Refusal(reason, field, "p-0", n, value, NOW, "ada") for n, (reason, field, value) in enumerate(refused)]
    )
    return opened


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters.app, arguments)


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_letters_are_listed_with_where_they_came_from_and_why(letters: DeadLetters) -> None:
    table = printed("list")
    assert "no [bold] JSON" in table
    assert "p-0:1" in table
    (future,) = [json.loads(line) for line in printed("list", "--json", "--field", "occurred_at").splitlines()]
    assert (future["reason"], future["status"], future["times_seen"]) == ("is in the future", "waiting", 1)
    assert printed("list", "--status", "discarded") == "no dead letters\n"


def test_a_letter_is_shown_with_its_message_whatever_bytes_it_has(letters: DeadLetters) -> None:
    (future,), (garbage,) = (letters.letters(LetterQuery(field=field)) for field in ("occurred_at", "message"))
    assert '{"a":"ö"}' in printed("show", future.letter[:10])
    assert r"b'\xff[bold]'" in printed("show", garbage.letter)
    assert json.loads(printed("show", garbage.letter, "--json"))["content"]["value"] == "/1tib2xkXQ=="
    assert isinstance(run("show", "0" * 16).exception, NotFound)
    assert isinstance(run("show", "").exception, InvalidInput)


def test_a_discard_needs_a_reason_and_a_choice(letters: DeadLetters) -> None:
    assert run("discard", "--all").exit_code == 2
    assert isinstance(run("discard", "--all", "--why", " ").exception, InvalidInput)
    assert isinstance(run("discard", "--why", "a test").exception, InvalidInput)
    assert isinstance(run("replay").exception, InvalidInput)
    assert printed("discard", "--all", "--why", "a test", "--dry-run") == "2 would be discarded\n"
    assert letters.waiting() == 2
    assert printed("discard", "--reason", "FUTURE", "--why", "a test") == "1 discarded\n"
    (gone,) = letters.letters(LetterQuery(status=Status.DISCARDED))
    assert (gone.why, letters.content([gone]), letters.waiting()) == ("a test", {}, 1)
    assert isinstance(run("discard", gone.letter, "--why", "a test").exception, NotFound)
    assert "the message is erased" in printed("show", gone.letter)


def test_since_is_a_time_or_how_long_ago(letters: DeadLetters) -> None:
    assert len(printed("list", "--json", "--since", "2h").splitlines()) == 2
    assert printed("list", "--json", "--since", "2100-01-01") == ""
    assert isinstance(run("list", "--since", "yesterday").exception, InvalidInput)
