"""`millirec dead-letters` as operators use it; replaying is in the journeys."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.interaction_log import open_dead_letters
from recsys.interaction_log.letters import DeadLetters, LetterQuery, Refusal, Status
from recsys.settings import LogSettings
from tests.millirec.test_command_line import millirec

NOW = datetime.now(UTC)


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    opened = open_dead_letters(LogSettings(path=str(tmp_path / "log")))
    refused = [("no [bold] JSON", "message", b"\xff[bold]"), ("is in the future", "occurred_at", b'{"a":"\xc3\xb6"}')]
    opened.bury(
        [Refusal(reason, field, "p-0", n, value, NOW, "ada") for n, (reason, field, value) in enumerate(refused)]
    )
    return opened


def test_letters_are_listed_and_shown_as_they_came(tmp_path: Path, letters: DeadLetters) -> None:
    place = {"MILLIREC_LOG__PATH": str(tmp_path / "log")}
    listed = millirec(tmp_path, "dead-letters", "list", **place)
    assert listed.returncode == 0, listed.stderr
    assert "no [bold] JSON" in listed.stdout
    assert "p-0:1" in listed.stdout
    lines = millirec(tmp_path, "dead-letters", "list", "--json", "--field", "occurred_at", **place).stdout.splitlines()
    (future,) = [json.loads(line) for line in lines]
    assert (future["reason"], future["status"], future["times_seen"]) == ("is in the future", "waiting", 1)
    assert '{"a":"ö"}' in millirec(tmp_path, "dead-letters", "show", future["letter"][:6], **place).stdout
    (garbage,) = letters.letters(LetterQuery(field="message"))
    assert r"b'\xff[bold]'" in millirec(tmp_path, "dead-letters", "show", garbage.letter, **place).stdout


def test_a_discard_needs_a_reason_and_a_choice(tmp_path: Path, letters: DeadLetters) -> None:
    place = {"MILLIREC_LOG__PATH": str(tmp_path / "log")}
    assert millirec(tmp_path, "dead-letters", "discard", "--all", **place).returncode == 2
    assert millirec(tmp_path, "dead-letters", "discard", "--all", "--why", " ", **place).returncode == 2
    refused = millirec(tmp_path, "dead-letters", "discard", "--why", "a test", **place)
    assert (refused.returncode, "--all" in refused.stderr) == (2, True)
    dry = millirec(tmp_path, "dead-letters", "discard", "--all", "--why", "a test", "--dry-run", **place)
    assert ("2 would be discarded" in dry.stdout, letters.waiting()) == (True, 2)
    done = millirec(tmp_path, "dead-letters", "discard", "--reason", "FUTURE", "--why", "a test", **place)
    assert "1 discarded" in done.stdout
    (gone,) = letters.letters(LetterQuery(status=Status.DISCARDED))
    assert (gone.why, letters.content([gone]), letters.waiting()) == ("a test", {}, 1)
    again = millirec(tmp_path, "dead-letters", "discard", gone.letter, "--why", "a test", **place)
    assert (again.returncode, "does not exist" in again.stderr) == (1, True)


def test_since_is_a_time_or_how_long_ago(tmp_path: Path, letters: DeadLetters) -> None:
    place = {"MILLIREC_LOG__PATH": str(tmp_path / "log")}
    recent = millirec(tmp_path, "dead-letters", "list", "--json", "--since", "2h", **place)
    assert len(recent.stdout.splitlines()) == 2
    assert millirec(tmp_path, "dead-letters", "list", "--json", "--since", "2100-01-01", **place).stdout == ""
    wrong = millirec(tmp_path, "dead-letters", "list", "--since", "yesterday", **place)
    assert (wrong.returncode, "neither like 2h nor a time" in wrong.stderr) == (2, True)
