"""The command line as people use it: real processes, what they print and how they exit."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from app.spool.folder import SpoolFolder
from recsys.stores.topic import Outgoing
from tests.environment.deployment import Deployment, free_port


def millirec(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLIREC_")}
    return subprocess.run(
        [sys.executable, "-m", "millirec", *arguments],
        cwd=folder,
        env={**environment, "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def nothing_there(tmp_path: Path) -> dict[str, str]:
    """Variables of a deployment in which nothing runs."""
    return {
        "MILLIREC_STORE__URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0",
        "MILLIREC_STORE__TIMEOUT": "1",
        "MILLIREC_REGISTRY__URL": str(tmp_path / "registry"),
        "MILLIREC_LOG__PATH": str(tmp_path / "log"),
    }


def test_help_names_every_command(tmp_path: Path) -> None:
    done = millirec(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("demo", "up", "serve", "consume", "import", "train", "versions", "doctor", "config", "key"):
        assert command in done.stdout


def test_config_prints_what_is_in_force_with_secrets_masked(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    (tmp_path / "millirec.toml").write_text("[serve]\nport = 9999\nworkers = 3\n")
    done = millirec(tmp_path, "config", **nothing_there, MILLIREC_SERVE__WORKERS="2")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["serve"]["port"] == 9999
    assert values["serve"]["workers"] == 2, "a variable wins over the file"
    assert "hunter2" not in done.stdout


def test_schemas_are_written_as_they_are_published(tmp_path: Path) -> None:
    assert millirec(tmp_path, "schemas", "made").returncode == 0
    published = Path(__file__).parents[3] / "docs" / "schemas"
    written = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    assert written == {path.name: path.read_bytes() for path in published.iterdir()}


def test_placements_are_set_and_taken_back_with_a_history(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    (tmp_path / "millirec.toml").write_text("[serve.placements.home]\nk = 5\n")
    (tmp_path / "home.json").write_text('{"k": 3, "sources": [{"source": "trending"}]}')
    done = millirec(tmp_path, "placements", "set", "home", "@home.json", **nothing_there)
    assert done.returncode == 0, done.stderr
    assert "will notice by polling" in done.stderr, "there is no store to tell replicas through"
    assert json.loads(millirec(tmp_path, "placements", "show", "home", **nothing_there).stdout)["k"] == 3
    assert "operator" in millirec(tmp_path, "placements", "list", **nothing_there).stdout
    assert millirec(tmp_path, "placements", "delete", "home", **nothing_there).returncode == 0
    assert json.loads(millirec(tmp_path, "placements", "show", "home", **nothing_there).stdout)["k"] == 5
    assert "taken back" in millirec(tmp_path, "placements", "history", "home", **nothing_there).stdout


def test_a_placement_that_makes_no_sense_is_named_by_field(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    done = millirec(tmp_path, "placements", "set", "home", '{"k": 0}', **nothing_there)
    assert (done.returncode, "k: " in done.stderr) == (2, True)
    done = millirec(tmp_path, "config", MILLIREC_SERVE__PLACEMENTS='{"Home": {}}')
    assert (done.returncode, "'^[a-z]" in done.stderr) == (2, True)
    (tmp_path / "millirec.toml").write_text('[[serve.placements.home.sources]]\nsource = "stars"\n')
    done = millirec(tmp_path, "config")
    assert (done.returncode, "home.sources.0.source: " in done.stderr) == (2, True)


def test_the_schema_of_the_settings_is_whole(tmp_path: Path) -> None:
    schema = json.loads(millirec(tmp_path, "config", "--schema").stdout)
    placement = schema["$defs"]["ServeSettings"]["properties"]["placements"]["additionalProperties"]
    assert placement["properties"]["k"]["maximum"] == 500
    assert "trending" in placement["properties"]["sources"]["items"]["properties"]["source"]["enum"]


def test_a_wrong_setting_is_named_with_its_variable(tmp_path: Path) -> None:
    done = millirec(tmp_path, "config", MILLIREC_SERVE__PORT="many")
    assert done.returncode == 2
    assert "MILLIREC_SERVE__PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "millirec.toml").write_text("[serve]\nprot = 9999\n")
    done = millirec(tmp_path, "config")
    assert done.returncode == 2
    assert "serve.prot" in done.stderr


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    done = millirec(tmp_path, "doctor", **nothing_there)
    assert done.returncode == 1
    assert "MILLIREC_STORE__URL" in done.stdout
    assert "train one" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_doctor_tells_of_spooled_events_that_nobody_sends(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    left = SpoolFolder(tmp_path / "spool", 1 << 20)
    left.append([Outgoing("u1", b"{}")] * 3)
    nothing_there["MILLIREC_SERVE__SPOOL"] = str(tmp_path / "spool")
    assert "3 messages" not in millirec(tmp_path, "doctor", **nothing_there).stdout
    left.close()
    assert "3 messages" in millirec(tmp_path, "doctor", **nothing_there).stdout


def test_doctor_is_content_when_all_is_well(deployment: Deployment) -> None:
    assert "wrong" not in deployment.run("doctor")


def test_a_key_is_shown_once_and_configured_as_a_hash(tmp_path: Path) -> None:
    done = millirec(tmp_path, "key", "shop", "--scope", "recommend", "--scope", "events")
    secret = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("mr_"))
    assert f'sha256 = "{sha256(secret.encode()).hexdigest()}"' in done.stdout
    start = done.stdout.index("[[serve.keys]]")
    (tmp_path / "millirec.toml").write_text(done.stdout[start:])
    configured = json.loads(millirec(tmp_path, "config", "serve").stdout)
    assert configured["keys"][0]["name"] == "shop"


def test_training_on_an_empty_log_says_what_to_do(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    done = millirec(tmp_path, "train", **nothing_there)
    assert done.returncode == 1
    assert "millirec import" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rollback_without_versions_is_one_line(tmp_path: Path, nothing_there: dict[str, str]) -> None:
    done = millirec(tmp_path, "versions", "rollback", "--reason", "test", **nothing_there)
    assert done.returncode == 1
    assert "no version before" in done.stderr
    assert "Traceback" not in done.stderr


def test_versions_move_and_keep_their_history(deployment: Deployment) -> None:
    assert "second" in deployment.run("versions", "list")
    deployment.run("versions", "promote", "second", "--reason", "better")
    assert "rollback: worse" in deployment.run("versions", "rollback", "--reason", "worse")
    told = deployment.run("versions", "history")
    assert [told.index(word) for word in ("start", "better", "worse")] == sorted(
        told.index(word) for word in ("start", "better", "worse")
    )
    assert json.loads(deployment.run("versions", "show", "--json"))["version"] == "first"
    assert "deleted 1: second" in deployment.run("versions", "prune", "--keep", "0")


def test_a_port_that_is_taken_is_named(deployment: Deployment) -> None:
    deployment.serve()
    done = millirec(deployment.folder, "up", "--port", str(deployment.port), "--data", str(deployment.folder / "up"))
    assert done.returncode == 1
    assert f"port {deployment.port} is taken" in done.stderr
