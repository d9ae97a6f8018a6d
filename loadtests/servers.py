"""Servers under measurement: started on a free port, watched, and ended."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil

MILLIREC = [sys.executable, "-m", "millirec", "serve", "--port", "{port}", "--workers", "{workers}"]
READY_WITHIN = 120.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of a server: processor seconds so far, and memory in MB.

    `private` is anonymous memory, `shared` what is mapped from files; of the worker that has the most.
    """

    seconds: float
    resident: float
    private: float
    largest_private: float


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its main process."""

    url: str
    process: psutil.Process

    def usage(self) -> Usage:
        """Return the processor time and memory that the server's processes use now."""
        tree = [self.process, *self.process.children(recursive=True)]
        seconds = sum(sum(process.cpu_times()[:2]) for process in tree)
        memory = [_memory(process.pid) for process in tree]
        private = [anonymous for _, anonymous in memory]
        return Usage(seconds, sum(resident for resident, _ in memory), sum(private), max(private))


def baseline(application: str) -> list[str]:
    """The command that runs `application` on uvicorn as `millirec serve` does."""
    command = [sys.executable, "-m", "uvicorn", application, "--port", "{port}", "--workers", "{workers}"]
    return [*command, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


@contextmanager
def served(command: list[str], environment: Mapping[str, str], key: str, workers: int = 1) -> Iterator[Server]:
    """The server, once it answers /recommend."""
    port = free_port()
    arguments = [part.format(port=port, workers=workers) for part in command]
    process = subprocess.Popen(arguments, env=dict(environment), stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{url}/recommend?user_id=user-1", key, process)
        yield Server(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cores() -> int:
    """The number of processor cores, at least 1."""
    return os.cpu_count() or 1


def _wait(url: str, key: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + READY_WITHIN
    while monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server for {url} ended with {process.returncode}")
        try:
            if httpx.get(url, headers={"X-API-Key": key}).status_code == 200:
                return
        except httpx.TransportError:
            pass
        sleep(0.1)
    raise RuntimeError(f"{url} did not answer within {READY_WITHIN:.0f} s")


def _memory(pid: int) -> tuple[float, float]:
    """Resident and anonymous megabytes; where the system does not tell, all of it counts as both."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    if not rollup.exists():
        resident = psutil.Process(pid).memory_info().rss / 1e6
        return resident, resident
    lines = dict(line.split(":", 1) for line in rollup.read_text().splitlines()[1:])
    kilobytes = {name: int(value.split()[0]) for name, value in lines.items()}
    return kilobytes["Rss"] / 1e3, kilobytes["Anonymous"] / 1e3
