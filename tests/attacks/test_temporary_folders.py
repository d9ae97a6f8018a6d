"""What a killed process left in the temporary directory is collected by the next; nobody else's is touched."""

import ast
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys.scratch import PREFIX, collect, scratch_folder
from tests.attacks.standing import environment_of
from tests.environment.waiting import wait_until_sync

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from pathlib import Path
from recsys.scratch import scratch_folder
with scratch_folder("work", Path(sys.argv[1])) as folder:
    (folder / "users").write_text("u1")
    print(folder, flush=True)
    sys.stdin.read()
"""
OWN_TEMPORARY = {"recsys/scratch.py", "millirec/standalone/private_files.py", "app/spool/folder.py"}
"""The last of them asks for a file without a name, which leaves nothing behind."""
NOBODY = 65534


@contextmanager
def working(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process with a scratch folder, killed at the end of the block."""
    command = [sys.executable, "-c", WORKER, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().decode().strip())
        process.kill()


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    with working(tmp_path) as (_, alive):
        with working(tmp_path) as (_, killed):
            pass
        assert (killed / "users").exists()
        with scratch_folder("other", tmp_path) as mine:
            assert not killed.exists()
            assert (alive / "users").exists()
            assert mine.stat().st_mode & 0o077 == 0
        assert not mine.exists()
        assert alive.exists()


def test_folders_of_others_and_what_only_looks_like_one_are_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (precious / "inside").mkdir(parents=True)
    (tmp_path / f"{PREFIX}link").symlink_to(precious)
    (tmp_path / f"{PREFIX}file").write_text("no folder")
    if os.geteuid() == 0:
        foreign = tmp_path / f"{PREFIX}foreign"
        foreign.mkdir()
        os.chown(foreign, NOBODY, NOBODY)
        collect(tmp_path)
        assert foreign.exists()
    assert collect(tmp_path) == []
    assert (precious / "inside").exists()


def test_every_temporary_folder_is_such_a_folder() -> None:
    users = set()
    for path in (
        path for name in ("app", "ingest", "recsys", "training", "millirec") for path in (ROOT / name).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if "tempfile" in names or (isinstance(node, ast.ImportFrom) and node.module == "tempfile"):
                users.add(str(path.relative_to(ROOT)))
    assert users == OWN_TEMPORARY


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """Variables of a deployment with a log to learn from and a temporary directory of its own."""
    chance = random.Random(7)
    rows = ["event_id,user_id,item_id,type,occurred_at"]
    for number in range(20_000):
        day = f"2024-0{1 + number % 6}-{1 + number % 28:02}T00:00:00Z"
        rows.append(f"e{number},u{chance.randrange(2000)},i{chance.randrange(500)},purchase,{day}")
    (tmp_path / "events.csv").write_text("\n".join(rows))
    (tmp_path / "tmp").mkdir()
    variables = {
        "TMPDIR": str(tmp_path / "tmp"),
        "MILLIREC_LOG__PATH": str(tmp_path / "log"),
        "MILLIREC_REGISTRY__URL": str(tmp_path / "registry"),
        "MILLIREC_REGISTRY__CACHE": str(tmp_path / "cache"),
        "MILLIREC_INGEST__REJECTED": str(tmp_path / "rejected"),
        "MILLIREC_TRAIN__REPORTS": str(tmp_path / "reports"),
        "MILLIREC_TRAIN__LEASE_SECONDS": "1",
    }
    command = [sys.executable, "-m", "millirec", "import", str(tmp_path / "events.csv"), "--no-seed"]
    subprocess.run(command, env=environment_of(**variables), check=True, capture_output=True)
    return variables


@pytest.mark.slow
def test_what_a_killed_training_leaves_behind_is_gone_with_the_next(shop: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "millirec", "train", "--force", "--reason", "test", "--no-promote"]
    killed = subprocess.Popen(command, env=environment_of(**shop), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_sync(lambda: list((tmp_path / "tmp").glob(f"{PREFIX}train-*")), 60.0)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    (left,) = (tmp_path / "tmp").glob(f"{PREFIX}train-*")
    wait_until_sync(
        lambda: subprocess.run(command, env=environment_of(**shop), capture_output=True, check=False).returncode == 0,
        100.0,
    )
    assert not left.exists()
    assert list((tmp_path / "tmp").glob(f"{PREFIX}*")) == []
