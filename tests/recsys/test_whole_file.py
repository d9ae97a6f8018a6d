"""Whole files: readers see the old content or the new, and a writer that is killed leaves nothing that counts."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.whole_file import OWNER_ONLY, PARTIAL, STALE_SECONDS, replacing, write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from recsys.whole_file import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_block_that_raises_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_whole(path, b"old")

    def fail() -> None:
        with replacing(path, durable=True) as stream:
            stream.write(b"half")
            raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_content_and_a_file_that_a_later_writer_removes(tmp_path: Path) -> None:
    path = tmp_path / "record[1]"
    write_whole(path, b"old")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (partial,) = tmp_path.glob(f"*{PARTIAL}")
    with replacing(path) as stream:
        stream.write(b"newer")
    assert partial.exists(), "it might be of a writer that is at work"
    at = partial.stat().st_mtime - 2 * STALE_SECONDS
    os.utime(partial, (at, at))
    with replacing(path) as stream:
        stream.write(b"newest")
    assert path.read_bytes() == b"newest"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_whole(path, b"old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("mask", "mode", "expected"), [(0, OWNER_ONLY, 0o600), (0o077, 0o666, 0o600), (0, 0o666, 0o666)]
)
def test_the_rights_are_those_of_the_caller_less_the_umask(tmp_path: Path, mask: int, mode: int, expected: int) -> None:
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "key", mode=mode) as stream:
            (partial,) = tmp_path.iterdir()
            assert stat.S_IMODE(partial.stat().st_mode) == expected, "from the first byte on"
            stream.write(b"secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == expected


def test_a_durable_file_is_flushed_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "record", list[tuple[bool, bool]]()
    flush = os.fsync

    def observe(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", observe)
    write_whole(path, b"content", durable=True)
    assert flushed == [(False, False), (True, True)]
    write_whole(path, b"content")
    assert len(flushed) == 2
