"""Standalone: the whole of millirec on one machine, with an embedded Valkey and nothing to install.

Everything lives in one data folder, and all settings that differ from a distributed deployment are a pure
function of that folder (`environment`), so that any `millirec --data DIR ...` command finds the same stores.
"""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from millirec.standalone.embedded_store import VALKEY, socket_path, start_store
from millirec.standalone.private_files import make_private
from millirec.standalone.process_record import DATA_VARIABLE
from millirec.standalone.startup import answers
from millirec.standalone.supervisor import Supervisor
from millirec.terminal import console
from recsys.errors import Conflict

__all__ = ["VALKEY", "embedded_store", "environment", "services", "socket_path"]

FOLDERS = ("cache", "keys", "log", "logs", "registry", "rejected", "reports", "spool", "valkey")


def environment(data: Path) -> dict[str, str]:
    """Return the settings of the standalone deployment in `data`, as environment variables."""
    data = data.resolve()
    return {
        DATA_VARIABLE: str(data),
        "MILLIREC_STORE__BACKEND": "redis",
        "MILLIREC_STORE__URL": f"unix://{socket_path(data)}",
        "MILLIREC_TOPIC__BACKEND": "redis",
        "MILLIREC_LOG__BACKEND": "delta",
        "MILLIREC_LOG__PATH": str(data / "log"),
        "MILLIREC_REGISTRY__BACKEND": "object_store",
        "MILLIREC_REGISTRY__URL": str(data / "registry"),
        "MILLIREC_REGISTRY__CACHE": str(data / "cache"),
        "MILLIREC_SERVE__SPOOL": str(data / "spool"),
        "MILLIREC_INGEST__METRICS_HOST": "127.0.0.1",
        "MILLIREC_INGEST__REJECTED": str(data / "rejected"),
        "MILLIREC_TRAIN__REPORTS": str(data / "reports"),
    }


@contextmanager
def embedded_store(data: Path) -> Iterator[Supervisor]:
    """Run the embedded Valkey of `data` and yield its supervisor, which stops everything else before it.

    Raises `Conflict` while another process does, `StoreUnavailable` where it does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"{data} is in use by another millirec; stop that one, or use another --data") from error
        _close_to_others(data)
        supervisor = Supervisor(data)
        try:
            start_store(supervisor, data)
            yield supervisor
        finally:
            supervisor.stop()


def services(
    supervisor: Supervisor,
    data: Path,
    *,
    port: int,
    workers: int,
    extra: Mapping[str, list[str]],
    keys: Mapping[str, str],
    console_port: int | None = None,
) -> dict[str, str]:
    """Start consumers, the HTTP service and `extra` commands. Returns the URL at which each answers once it works.

    `keys` is the setting with the API keys. The web console is left out without a port.
    """
    groups = {"features": free_port(), "log": free_port()}
    urls = {f"consume-{group}": f"http://127.0.0.1:{at}/metrics" for group, at in groups.items()}
    urls["serve"] = f"http://127.0.0.1:{port}/health/live"
    if console_port is not None:
        urls["console"] = f"http://127.0.0.1:{console_port}/health"
    variables = {**console_environment(port, groups.values()), **os.environ, **environment(data), **keys}

    def start(name: str, *arguments: str) -> None:
        """Run a `millirec` command under the supervisor."""
        check = {"answers": partial(answers, urls[name])} if name in urls else {}
        root = "{0.scheme}://{0.netloc}".format(urlsplit(urls[name])) if name in urls else ""
        supervisor.start(name, [sys.executable, "-m", "millirec", *arguments], variables, url=root, **check)

    for group, metrics_port in groups.items():
        start(f"consume-{group}", "consume", group, "--metrics-port", str(metrics_port))
    for name, arguments in extra.items():
        start(name, *arguments)
    start("serve", "serve", "--port", str(port), "--workers", str(workers))
    if console_port is not None:
        start("console", "console", "--port", str(console_port))
    return urls


def console_environment(port: int, metrics_ports: Iterable[int]) -> dict[str, str]:
    """Return the settings of this machine's console, which the environment may override."""
    service = f"http://127.0.0.1:{port}"
    urls = [f"{service}/metrics", *(f"http://127.0.0.1:{at}/metrics" for at in metrics_ports)]
    return {"MILLIREC_CONSOLE__API_URL": service, "MILLIREC_CONSOLE__METRICS_URLS": json.dumps(urls)}


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_ports(port: int, console_port: int | None) -> None:
    """Raise `Conflict` when a port is in use, naming the option that chooses another."""
    _check_port(port, "--port")
    if console_port == port:
        raise Conflict(f"port {port} is for the service: give the console another --console-port, or --no-console")
    if console_port is not None:
        _check_port(console_port, "--console-port, or --no-console")


def _check_port(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Conflict(
                f"port {port} is taken ({error.strerror}): stop what uses it, or give another {option}"
            ) from error


def _close_to_others(data: Path) -> None:
    """Make folders private that an earlier release created with the umask of the shell."""
    closed = [name for name in FOLDERS if (data / name).is_dir() and make_private(data / name)]
    if closed:
        text = f"closed to others on this machine, as they hold users' data: {', '.join(closed)} in {data}"
        console.print(text, highlight=False)
