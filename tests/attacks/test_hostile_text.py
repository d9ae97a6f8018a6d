"""Text that would move a cursor, colour or forge a line or turn the writing round reaches no terminal and no page."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millirec.console.panels.placement_text import check, text_of
from recsys.observability.text import printable, printable_json
from recsys.recommender.placement import Placement
from recsys.settings import LogSettings, RegistrySettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import pin, promote
from recsys.stores.model_registry.rollouts import start_canary, start_shadow
from recsys.stores.settings_log import open_settings_log
from tests.environment.pseudo_terminal import shown
from tests.environment.versions import publish_small_version

OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x00\r\u202e\u2066\ufeff\U000e0041"
"""A window's title, a clear screen, a colour in one byte, and writing turned round."""
HOSTILE = f"a{OBEYED}z[red]RED[/red][link=https://evil.example]here[/link]:bomb:\nforged"
WRITTEN_OUT = printable(OBEYED)
MARKUP = "[red]RED[/red][link=https://evil.example]here[/link]:bomb:"
FILTER = f"brand = '{HOSTILE}'"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FIRST, SECOND = (
    Refusal(HOSTILE, HOSTILE, HOSTILE, n, HOSTILE.encode(), NOW, HOSTILE, {"h" + HOSTILE: HOSTILE.encode()})
    for n in (0, 1)
)
TYPED = HOSTILE.replace("\0", "")
"""Characters that an argument or a variable may hold."""
TELLING = (
    ("dead-letters", "list", "--status", "all"),
    ("dead-letters", "list", "--json"),
    ("dead-letters", "show", FIRST.letter),
    ("dead-letters", "show", SECOND.letter),
    ("dead-letters", "show", SECOND.letter, "--json"),
    ("dead-letters", "show", TYPED),
    ("versions", "show", TYPED),
    ("versions", "history"),
    ("versions", "history", "--json"),
    ("placements", "show", "home"),
    ("placements", "list"),
    ("placements", "history", "home"),
)
"""These have it in what they show."""
ARGUMENTS = (
    *TELLING,
    ("dead-letters", "replay", "--all", "--dry-run"),
    ("versions", "list"),
    ("versions", "show", "first"),
    ("canary", "status"),
    ("shadow", "report"),
    ("log", "stats"),
    ("doctor",),
    ("config",),
)
MISUSES = (
    ("--" + TYPED,),
    (TYPED,),
    ("versions", TYPED),
    ("versions", "show", "first", TYPED),
    ("versions", "list", "--" + TYPED),
    ("train", "--version=" + TYPED),
    ("up", "--port", TYPED),
    ("up", "--port=" + TYPED),
    ("--log-level", TYPED, "config"),
    ("dead-letters", "list", "--status", TYPED),
)
"""None of these is a command."""
ROWS = f'{{"user_id": {json.dumps(HOSTILE)}, "item_id": "i1", "type": {json.dumps(HOSTILE)}, "occurred_at": "x"}}\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a log and a registry that are full of such text."""
    folder = tmp_path_factory.mktemp("hostile")
    letters = open_dead_letters(LogSettings(path=str(folder / "log")))
    letters.dead_letter([FIRST])
    letters.discard(letters.letters(LetterQuery()), HOSTILE, HOSTILE, NOW)
    letters.dead_letter([SECOND])
    registry = open_model_registry(RegistrySettings(url=str(folder / "registry")))
    for seed, version in enumerate(("first", "second")):
        publish_small_version(registry, folder / "built", version, seed)
    promote(registry, "first", actor=HOSTILE, reason=HOSTILE)
    pin(registry, "second", actor=HOSTILE, reason=HOSTILE)
    start_canary(registry, "second", actor=HOSTILE, reason=HOSTILE)
    start_shadow(registry, "second", actor=HOSTILE, reason=HOSTILE)
    open_settings_log(RegistrySettings(url=str(folder / "registry"))).change(
        "home", Placement(filter=FILTER), actor=HOSTILE
    )
    (folder / f"rows-{OBEYED.replace(chr(0), '')}[red].jsonl").write_text(ROWS)
    return {
        **os.environ,
        "MILLIREC_LOG__PATH": str(folder / "log"),
        "MILLIREC_REGISTRY__URL": str(folder / "registry"),
        "MILLIREC_REGISTRY__CACHE": str(folder / "cache"),
        "MILLIREC_INGEST__REJECTED": str(folder / "rejected"),
        "MILLIREC_STORE__BACKEND": "memory",
        "MILLIREC_TOPIC__BACKEND": "memory",
        "TERM": "xterm-256color",
        "COLUMNS": "2000",
        "FOLDER": str(folder),
    }


COMMANDS = """
import os, sys
from json import loads
from millirec.main import main
for arguments in loads(os.environ["COMMANDS"]):
    print("command", *map(ascii, arguments), flush=True)
    sys.argv = ["millirec", *arguments]
    try:
        main()
    except SystemExit:
        pass
"""


@pytest.fixture(scope="module")
def outputs(world: dict[str, str]) -> Mapping[tuple[str, ...], str]:
    """Return the output of each of `ARGUMENTS` on a terminal."""
    return outputs_of(ARGUMENTS, world)


def outputs_of(commands: Sequence[tuple[str, ...]], world: dict[str, str]) -> Mapping[tuple[str, ...], str]:
    """Return the output of each on a terminal, all of them in one process."""
    _, output = shown([sys.executable, "-c", COMMANDS], {**world, "COMMANDS": json.dumps(commands)})
    parts = re.split(r"^command .*$", output, flags=re.MULTILINE)[1:]
    return dict(zip(commands, parts, strict=True))


def assert_harmless(output: str) -> None:
    assert "\x1b]" not in output, "a title or a link"
    assert "\x1b[2J" not in output
    assert not set(output) & set(OBEYED) - {"\x1b", "\r", *"]0;owned[2J31m"}, ascii(output)
    assert "\U0001f4a3" not in output, "an emoji's code"
    assert not any(line.startswith("forged") for line in output.splitlines())


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: ascii(" ".join(arguments))[:40])
def test_a_command_shows_it_written_out(outputs: Mapping[tuple[str, ...], str], arguments: tuple[str, ...]) -> None:
    output = outputs[arguments]
    assert output.strip()
    assert_harmless(output)
    if arguments in TELLING:
        assert "[red]RED[/red]" in output, "markup is text"
        assert "\\x1b" in output or "\\u001b" in output


def test_a_usage_error_quotes_its_arguments_written_out(world: dict[str, str]) -> None:
    for arguments, output in outputs_of(MISUSES, world).items():
        assert "Error" in output, ascii(arguments)
        assert_harmless(output)


def test_an_import_names_its_files_and_its_reasons_written_out(world: dict[str, str]) -> None:
    (file,) = Path(world["FOLDER"]).glob("rows-*")
    _, output = shown([sys.executable, "-m", "millirec", "import", str(file), "--no-seed"], world)
    assert_harmless(output)
    assert "[red].jsonl" in output
    assert "\\x1b" in output


def test_a_settings_error_is_written_out(world: dict[str, str]) -> None:
    wrong = {**world, "MILLIREC_TOPIC__BACKEND": TYPED}
    _, output = shown([sys.executable, "-m", "millirec", "config"], wrong)
    assert_harmless(output)


LOGGING = """
import logging, sys
from recsys.observability.telemetry import configure_logging
import structlog
text = sys.argv[1]
configure_logging("info")
structlog.get_logger().warning(text, user=text, several=[text], error=ValueError(text))
logging.getLogger("uvicorn.error").error("%s", text)
try:
    raise ValueError(text)
except ValueError:
    structlog.get_logger().exception("failed", key=text)
    logging.getLogger("asyncio").exception(text)
"""


def test_a_log_on_a_terminal_has_it_written_out(world: dict[str, str]) -> None:
    status, output = shown([sys.executable, "-c", LOGGING, TYPED], world)
    assert status == 0, output
    assert_harmless("\n".join(line for line in output.splitlines() if line != "forged"))
    assert output.count("\\x1b]0;owned") >= 5


def test_an_error_that_nobody_expected_is_written_out(world: dict[str, str]) -> None:
    code = "import sys, millirec.main as m\ndef fail(): raise RuntimeError(sys.argv[1])\nm.app = fail\nm.main()\n"
    status, output = shown([sys.executable, "-c", code, TYPED], world)
    assert status == 1
    assert "RuntimeError" in output
    assert_harmless("\n".join(line for line in output.splitlines() if line != "forged"))


@given(st.text())
def test_what_is_printable_stays_as_it_is_and_all_else_is_written_out(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in printable(text))
    if text.isprintable():
        assert printable(text) == text


@given(st.text())
def test_json_that_is_written_out_says_the_same(text: str) -> None:
    written = printable_json(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(written) == {"a": text}
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in written)


def test_a_placement_with_such_a_title_is_edited_without_a_change() -> None:
    placement = Placement(filter=FILTER)
    text = text_of(placement)
    assert "\u202e" not in text
    assert check(text)[1] == placement
