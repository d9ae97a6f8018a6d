"""Supervisor: child processes of one machine, restarted when they die, stopped in order and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import structlog

log = structlog.get_logger()
MAX_BACKOFF = 30.0
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One `millirec` process: its arguments, its running process and when it may be started again."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    backoff: float = 0.5
    started_at: float = 0.0
    not_before: float = 0.0
    restarts: int = 0
    log_path: Path = field(default_factory=Path)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Children run in sessions of their own, so that Ctrl-C reaches only this process, which then stops
    them in the reverse order of their start; on Linux they also end when this process is killed."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = dict(environment)
        self._logs = logs
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Run `millirec ARGUMENTS`; what it prints goes to `logs/NAME.log`."""
        child = Child(name, arguments, log_path=self._logs / f"{name}.log")
        self._children.append(child)
        self._spawn(child)
        return child

    def tend(self) -> None:
        """Start again what has died, each time after a longer pause while it keeps dying young."""
        now = monotonic()
        for child in self._children:
            if child.running or now < child.not_before:
                continue
            if child.process is not None and child.not_before < child.started_at:
                code = child.process.returncode
                child.backoff = 0.5 if now - child.started_at > MAX_BACKOFF else min(2 * child.backoff, MAX_BACKOFF)
                child.not_before = now + child.backoff
                log.error("a process died, restarting it", name=child.name, code=code, log=str(child.log_path))
                continue
            child.restarts += 1
            self._spawn(child)

    def stop(self, timeout: float = 15.0) -> None:
        """SIGTERM to one child after the other, the last started first; SIGKILL to what stays."""
        for child in reversed(self._children):
            if not child.running or child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(timeout)
            except subprocess.TimeoutExpired:
                log.error("a process did not stop in time, killing it", name=child.name)
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
        self._children.clear()

    def _spawn(self, child: Child) -> None:
        with child.log_path.open("ab") as output:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "millirec", *child.arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
            )
        child.started_at = monotonic()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
