"""The demo's own check, as `make demo ARGS=--check` runs it, and a second start on what it left."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from recsys.settings import LogSettings
from recsys.stores.event_log import open_interaction_log
from tests.environment.deployment import free_port
from tests.environment.waiting import wait_until_sync


def demo(data: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "millirec",
            "demo",
            "--check",
            "--data",
            str(data),
            "--port",
            str(free_port()),
            "--console-port",
            str(free_port()),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_keeps_its_promises_and_leaves_nothing_running(tmp_path: Path) -> None:
    first = demo(tmp_path / "demo")
    assert first.count("✓") == 12
    again = demo(tmp_path / "demo", "--workers", "2", "--no-console")
    assert again.count("✓") == 11
    assert "raw rows" not in again, "the second start imports nothing"
    assert left_running(tmp_path) == []


def test_up_keeps_what_it_was_given_and_leaves_nothing_running(tmp_path: Path) -> None:
    event = {"user_id": "ann", "item_id": "tea", "type": "purchase", "event_id": "e1"}
    console = free_port()
    with up(tmp_path, "--console-port", str(console)) as url:
        keys = {"X-API-Key": (tmp_path / "up" / "keys" / "admin").read_text().strip()}
        assert httpx.get(f"{url}/recommend").status_code == 401, "up makes keys"
        assert httpx.get(f"{url}/recommend", headers=keys).status_code == 503, "no version yet"
        wait_until_sync(lambda: answers(f"http://127.0.0.1:{console}/health"), 30.0)
        assert httpx.post(f"{url}/events", json=event, headers=keys).status_code == 202
    assert left_running(tmp_path) == []
    with up(tmp_path, "--no-console") as url:
        assert httpx.post(f"{url}/events", json=event, headers=keys).status_code == 202
        log = open_interaction_log(LogSettings(path=str(tmp_path / "up" / "log")))
        wait_until_sync(lambda: log.version() >= 0 and log.read().collect()["event_id"].to_list() == ["e1"], 30.0)
    assert left_running(tmp_path) == []


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[str]:
    """`millirec up` until the block ends; it must stop on SIGTERM by itself."""
    port = free_port()
    command = [sys.executable, "-m", "millirec", "up", "--data", str(folder / "up"), "--port", str(port), *arguments]
    with (folder / "up.out").open("ab") as output:
        process = subprocess.Popen([*command, "--retrain-hours", "0"], stdout=output, stderr=output)
    try:
        wait_until_sync(lambda: answers(f"http://127.0.0.1:{port}/health/live"), 60.0)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def left_running(folder: Path) -> list[list[str]]:
    return [one.cmdline() for one in psutil.process_iter() if str(folder) in " ".join(_words(one))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), *process.environ().values()]
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return []
