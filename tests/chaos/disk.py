"""A small disk of its own for the spool, which can be filled up without harm to anybody else."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 64 << 20
"""Bytes: room for what the spool leaves free, and for what waits on it."""
BALLAST = "ballast"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """`folder` as a disk in memory; `False`, and a plain folder, where mounting is not allowed."""
    folder.mkdir()
    mounted = os.geteuid() == 0 and _succeeds("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            # Lazily: a process that is about to end may still hold a file.
            _succeeds("umount", "--lazy", str(folder))


def fill(folder: Path) -> None:
    """To the last byte."""
    with (folder / BALLAST).open("ab", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def empty(folder: Path) -> None:
    (folder / BALLAST).unlink(missing_ok=True)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
