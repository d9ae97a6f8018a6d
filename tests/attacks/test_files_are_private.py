"""Files with users' data are for their owner alone, whatever the umask; a folder in a public place is ours."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from millirec.standalone import private_files
from millirec.standalone.embedded_store import MAX_SOCKET_PATH, socket_path
from recsys.errors import Conflict
from tests.attacks.standing import environment_of, logged_ids, standing
from tests.environment.waiting import wait_until_sync

OTHERS = 0o077
NOBODY = 65534
ROWS = "event_id,user_id,item_id,type,occurred_at\n"


def millirec(*arguments: str, umask: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millirec", *arguments]
    environment = environment_of(**variables)
    return subprocess.run(
        command, env=environment, umask=umask, capture_output=True, text=True, timeout=100, check=False
    )


def open_to_others(folder: Path) -> dict[str, str]:
    """Return the rights of other users of this machine in `folder` and below."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*")) if not path.is_symlink()}
    return {str(path): oct(mode) for path, mode in modes.items() if mode & OTHERS}


def modes_in(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_a_command_gives_nothing_to_others_unless_it_is_told_to(tmp_path: Path) -> None:
    assert millirec("schemas", str(tmp_path / "private")).returncode == 0
    assert open_to_others(tmp_path / "private") == {}
    assert millirec("schemas", str(tmp_path / "shared"), umask=0o022, MILLIREC_UMASK="007").returncode == 0
    assert modes_in(tmp_path / "shared") == {0o660}
    refused = millirec("schemas", str(tmp_path / "refused"), MILLIREC_UMASK="700")
    assert refused.returncode == 2
    assert "MILLIREC_UMASK" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_loop_leaves_nothing_that_others_can_open(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30) / ("longer" * 20) / "data"
    data.parent.mkdir(parents=True)
    assert len(str(data)) > 2 * MAX_SOCKET_PATH
    rows = [
        f"e{user}-{n},u{user},i{(user * n) % 17},purchase,2024-0{n}-01T00:00:00Z"
        for user in range(40)
        for n in (1, 2, 3)
    ]
    events = tmp_path / "events.csv"
    events.write_text(ROWS + "\n".join([*rows, "rejected,,,,"]))
    exported = tmp_path / "exported"
    exported.mkdir(mode=0o700)
    with standing(data, umask=0) as deployment:
        deployment.wait_for("millirec is up")
        here = ("--data", str(data))
        for arguments in (("import", str(events)), ("train", "--force", "--reason", "test")):
            done = millirec(*here, *arguments)
            assert done.returncode == 0, done.stderr
        with deployment.client("events") as client:
            event = {"event_id": "posted", "user_id": "u1", "item_id": "i1", "type": "view"}
            assert client.post("/events", json=event).status_code == 202
        wait_until_sync(lambda: "posted" in logged_ids(data), 60.0)
        with deployment.client("recommend") as client:
            wait_until_sync(lambda: client.get("/recommend?user_id=u1").status_code == 200, 60.0)
            version = client.get("/recommend?user_id=u1").json()["index_version"]
        done = millirec(*here, "versions", "export", version, str(exported / "version.tar"))
        assert done.returncode == 0, done.stderr
        names = {path.name for path in data.iterdir()}
        assert {"cache", "keys", "log", "logs", "registry", "rejected", "reports", "spool", "valkey"} <= names
        assert open_to_others(data) | open_to_others(exported) == {}
        assert open_to_others(socket_path(data).parent) == {}
        deployment.stop()
    assert open_to_others(data) == {}


def test_folders_that_an_earlier_release_left_open_are_closed(tmp_path: Path) -> None:
    for name in ("log", "reports"):
        (tmp_path / name).mkdir(mode=0o755)
    before = os.umask(private_files.PRIVATE)
    try:
        assert private_files.make_private(tmp_path / "log")
        assert not private_files.make_private(tmp_path / "log")
        os.umask(0o027)
        assert private_files.make_private(tmp_path / "reports")
    finally:
        os.umask(before)
    assert modes_in(tmp_path) == {0o700, 0o750}


def made_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def made_as_link(folder: Path) -> None:
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def made_by_others(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only an administrator can make a folder for somebody else")
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def made_as_file(folder: Path) -> None:
    folder.touch(mode=0o700)


@pytest.mark.parametrize("made", [made_open, made_as_link, made_by_others, made_as_file])
def test_the_socket_of_a_long_data_path_goes_into_no_folder_that_somebody_else_made(
    made: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(made)
    public = tmp_path / "public"
    public.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(public))
    data = tmp_path / "data"
    folder = private_files.temporary_folder(data.resolve())
    assert open_to_others(folder) == {}
    folder.rmdir()
    made(folder)
    monkeypatch.setattr("millirec.standalone.embedded_store._fits", lambda path: path.parent == folder)
    with pytest.raises(Conflict, match="only you can use"):
        socket_path(data)


def test_a_temporary_directory_too_long_for_a_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = tmp_path / ("x" * MAX_SOCKET_PATH)
    public.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(public))
    with pytest.raises(Conflict, match="TMPDIR"):
        socket_path(public / "data")


@pytest.mark.parametrize("length", [30, 99, 101, 250])
def test_a_socket_can_be_bound_for_a_data_path_of_any_length(length: int, tmp_path: Path) -> None:
    data = tmp_path / ("x" * length)
    path = socket_path(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()
    path.parent.rmdir()
