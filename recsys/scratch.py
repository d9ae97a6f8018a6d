"""Scratch folders: private, gone with the block, or with the next that opens beside them where a process was killed.

A folder is locked by the process that works in it. The system takes the lock back from one that is killed, so that
the next process sees that its content is not in use. Folders of other accounts are left alone.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.get_logger()
PREFIX = ".millirec-"


@contextmanager
def scratch_folder(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder in `parent`, else in the temporary directory. Raises `OSError` where there is no room."""
    base = Path(tempfile.gettempdir()) if parent is None else parent
    collect(base)
    folder, lock = _locked(base, purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def collect(base: Path | None = None) -> list[Path]:
    """Remove scratch folders of ours in `base` that no process works in; those that were removed."""
    removed = []
    base = base or Path(tempfile.gettempdir())
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid != os.geteuid():
                    continue
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                removed.append(folder)
            finally:
                os.close(lock)
    if removed:
        log.info("scratch folders of killed processes were removed", folders=[str(folder) for folder in removed])
    return removed


def _locked(base: Path, purpose: str) -> tuple[Path, int]:
    """A new folder and its lock; tries again where a collector removed the folder before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=base))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(folder.stat(), os.fstat(lock)):
                    return folder, lock
            os.close(lock)
