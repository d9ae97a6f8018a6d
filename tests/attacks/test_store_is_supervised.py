"""What `millirec up` runs comes back by itself when it dies, its store too, and nothing acknowledged is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.attacks.standing import RunningDeployment, environment_of, logged_ids, publish_version, standing
from tests.attacks.test_full_disk import occupy
from tests.environment.deployment import free_port
from tests.environment.waiting import wait_until_sync

STORE_DISK = 3 << 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(no_processes_left: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDeployment]:
    folder = tmp_path_factory.mktemp("standing")
    data = folder / "data"
    publish_version(data, folder / "built")
    with standing(data, "--console-port", str(free_port())) as deployment:
        deployment.wait_for("millirec is up")
        yield deployment
        deployment.stop()


def post(deployment: RunningDeployment, event_id: str) -> httpx.Response:
    event = {"event_id": event_id, "user_id": "u3", "item_id": "i1", "type": "view"}
    with deployment.client("events") as client:
        return client.post("/events", json=event)


def recommended(deployment: RunningDeployment) -> bool:
    """With the features of the user, which the store has."""
    try:
        with deployment.client("recommend") as client:
            response = client.get("/recommend", params={"user_id": "u3", "k": 5})
    except httpx.TransportError:
        return False
    return response.status_code == 200 and not response.json()["degraded"]


def doctor(deployment: RunningDeployment) -> str:
    command = [sys.executable, "-m", "millirec", "--data", str(deployment.data), "doctor"]
    return subprocess.run(command, env=environment_of(), capture_output=True, text=True, check=False).stdout


def test_a_killed_store_comes_back_and_what_was_acknowledged_meanwhile_reaches_the_log(
    running: RunningDeployment,
) -> None:
    wait_until_sync(lambda: recommended(running), 30.0)
    assert post(running, "before").status_code == 202
    # Held, so that the store stays dead for as long as it takes to look.
    running.process.send_signal(signal.SIGSTOP)
    os.kill(running.child("store").pid, signal.SIGKILL)
    wait_until_sync(lambda: "spooled" in post(running, "meanwhile-0").text)
    assert [post(running, f"meanwhile-{number}").status_code for number in range(1, 20)] == [202] * 19
    running.process.send_signal(signal.SIGCONT)
    expected = {"before", *(f"meanwhile-{number}" for number in range(20))}
    wait_until_sync(lambda: set(logged_ids(running.data)) == expected, 60.0)
    wait_until_sync(lambda: recommended(running), 30.0)
    running.wait_for("store is back")
    assert running.output.count("store ended (killed by SIGKILL)") == 1
    assert "killed by SIGKILL" in doctor(running)


def test_a_probe_finds_the_service_of_the_folder_by_itself(running: RunningDeployment) -> None:
    command = [sys.executable, "-m", "millirec", "--data", str(running.data), "probe", "freshness", "--probes", "3"]
    probed = subprocess.run(command, env=environment_of(), capture_output=True, text=True, timeout=60, check=False)
    assert probed.returncode == 0, probed.stderr


def test_every_other_process_that_is_killed_is_started_again(running: RunningDeployment) -> None:
    names = ("consume-features", "consume-log", "tidy", "serve", "console")
    killed = {name: running.child(name).pid for name in names}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    for name in names:
        running.wait_for(f"{name} is back")
        assert running.child(name).pid != killed[name]
    wait_until_sync(lambda: recommended(running), 60.0)


def test_a_store_that_a_full_disk_has_ended_comes_back_when_there_is_room(tmp_path: Path) -> None:
    data = tmp_path / "data"
    disk = data / "valkey"
    disk.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={STORE_DISK},mode=700", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only an administrator can mount a small disk, and not in every container")
    try:
        with standing(data) as deployment:
            deployment.wait_for("millirec is up")
            wait_until_sync(lambda: post(deployment, "before").status_code == 202, 30.0)
            occupied = occupy(disk)
            deployment.wait_for("store ended (exit code 1)")
            wait_until_sync(lambda: post(deployment, "meanwhile").status_code == 202, 30.0)
            occupied.unlink()
            wait_until_sync(lambda: set(logged_ids(data)) == {"before", "meanwhile"}, 90.0)
            deployment.stop()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
