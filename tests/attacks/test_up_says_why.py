"""`millirec up` that cannot work says why and ends; it calls itself up only when it is."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from millirec.standalone.supervisor import Supervisor
from recsys.errors import InvalidInput
from tests.attacks.standing import environment_of, standing, up_command
from tests.environment.deployment import free_port
from tests.environment.waiting import wait_until_sync

NOT_OURS = "192.0.2.1"
"""An address for documentation, which no machine has."""


def up(data: Path, port: int, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        up_command(data, port, "--no-console", *arguments),
        env=environment_of(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextmanager
def supervised(data: Path, script: str) -> Iterator[Supervisor]:
    supervisor = Supervisor(data)
    try:
        supervisor.start("thing", [sys.executable, "-c", script])
        yield supervisor
    finally:
        supervisor.stop()


def tended(supervisor: Supervisor) -> bool:
    supervisor.tend()
    return False


def test_a_setting_that_is_not_valid_is_named_before_anything_runs(tmp_path: Path) -> None:
    done = up(tmp_path / "data", free_port(), MILLIREC_SERVE__MAX_BATCH="many")
    assert done.returncode == 2
    assert "MILLIREC_SERVE__MAX_BATCH" in done.stderr
    assert "is up" not in done.stdout
    assert not (tmp_path / "data" / "logs").exists()


def test_what_a_process_says_when_it_refuses_its_settings_ends_the_supervisor(tmp_path: Path) -> None:
    script = "import sys; print('error: this \\x1b[2J setting', 'cannot work'); sys.exit(2)"
    with (
        supervised(tmp_path, script) as supervisor,
        pytest.raises(InvalidInput, match=r"thing: refuses to start: error: this  \[2J setting cannot work"),
    ):
        wait_until_sync(lambda: tended(supervisor), 30.0)


def test_a_process_that_keeps_dying_is_reported_once_for_each_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import os, sys; sys.exit(f'pid {os.getpid()} finds no room')"
    with supervised(tmp_path, script) as supervisor:
        wait_until_sync(lambda: tended(supervisor) or restarts(supervisor) > 2, 30.0)
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.count("thing ended (exit code 1): pid") == 1
    assert "thing.log" in printed


def restarts(supervisor: Supervisor) -> int:
    return supervisor._watches[0].record.restarts


@pytest.mark.slow
def test_up_is_not_up_while_its_service_cannot_listen(tmp_path: Path) -> None:
    with standing(tmp_path / "data", MILLIREC_SERVE__HOST=NOT_OURS) as deployment:
        deployment.wait_for("serve ended (exit code")
        wait_until_sync(lambda: deployment.child("serve").restarts > 1, 60.0)
        assert "is up" not in deployment.output
        assert deployment.output.count("serve ended") == 1
        assert "logs/serve.log" in deployment.output
        deployment.stop()


def test_a_port_of_another_program_is_noticed_before_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = up(tmp_path / "data", taken.getsockname()[1])
    assert done.returncode == 1
    assert "is taken" in done.stderr
    assert not (tmp_path / "data").exists()


def test_service_and_console_do_not_share_a_port(tmp_path: Path) -> None:
    port = free_port()
    command = up_command(tmp_path / "data", port, "--console-port", str(port))
    done = subprocess.run(command, env=environment_of(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "--console-port" in done.stderr


@pytest.mark.slow
def test_the_first_start_makes_keys_that_only_their_owner_can_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    event = {"event_id": "e1", "user_id": "ann", "item_id": "tea", "type": "view"}
    with standing(data) as deployment:
        deployment.wait_for("millirec is up")
        assert str(data / "keys") in deployment.output
        assert {path.stat().st_mode & 0o777 for path in (data / "keys").iterdir()} == {0o600}
        assert httpx.post(f"{deployment.url}/events", json=event).status_code == 401
        with deployment.client("recommend") as client:
            assert client.post("/events", json=event).status_code == 403
        with deployment.client("events") as client:
            assert client.post("/events", json=event).status_code == 202
        keys = {path.name: path.read_text() for path in (data / "keys").iterdir()}
        logs = "".join(path.read_text() for path in (data / "logs").iterdir())
        assert not [name for name, key in keys.items() if key.strip() in logs + deployment.output]
        deployment.stop()
    (data / "keys" / "events").unlink()
    with standing(data) as deployment:
        deployment.wait_for("millirec is up")
        assert "made API keys, readable by you alone: events in" in deployment.output
        assert (data / "keys" / "admin").read_text() == keys["admin"]
        assert (data / "keys" / "events").read_text() != keys["events"]
        deployment.stop()


@pytest.mark.slow
def test_without_keys_everybody_on_this_machine_may(tmp_path: Path) -> None:
    with standing(tmp_path / "data", "--no-keys") as deployment:
        deployment.wait_for("millirec is up")
        event = {"event_id": "e1", "user_id": "ann", "item_id": "tea", "type": "view"}
        assert httpx.post(f"{deployment.url}/events", json=event).status_code == 202
        assert not (deployment.data / "keys").exists()
        deployment.stop()
