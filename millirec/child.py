"""Child: a process of this machine that is started, watched and stopped; how it ended, and its last words."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from time import monotonic

PR_SET_PDEATHSIG = 1
REFUSED = 2
"""The exit code of `millirec` for settings and input that can never work."""
LAST_LINES = 5
LAST_BYTES = 8192
LONGEST_WORDS = 1000


@dataclass
class Child:
    """Not restarted by itself: `Supervisor` decides when."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str] | None = None
    stop_timeout: float = 15.0
    """Seconds from SIGTERM to SIGKILL."""
    outlives: bool = False
    """The death of its supervisor: what it has in memory is worth more than order."""
    answers: Callable[[], bool] = lambda: True
    """Whether it works, for somebody who was told that it had ended."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    starts: int = 0
    log_offset: int = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        return 0 if self.process is None else self.process.pid

    @property
    def refused(self) -> bool:
        """It says that what it was started with can never work. Not of a store, which has codes of its own."""
        return not self.outlives and self.process is not None and self.process.returncode == REFUSED

    def spawn(self) -> None:
        """In a session of its own, so that Ctrl-C does not reach it. What it prints goes to `log_path`."""
        ends = not self.outlives and sys.platform == "linux"
        with self.log_path.open("ab") as output:
            self.log_offset = output.tell()
            self.process = subprocess.Popen(
                list(self.command),
                env=None if self.environment is None else dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if ends else None,  # noqa: PLW1509 - no threads here
            )
        self.started_at = monotonic()
        self.starts += 1

    def stop(self) -> bool:
        """SIGTERM, and SIGKILL to what stays; whether that was needed."""
        if not self.running or self.process is None:
            return False
        self.process.terminate()
        try:
            self.process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return True
        return False

    def ending(self) -> str:
        """How the last process ended, for people."""
        code = None if self.process is None else self.process.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def last_words(self) -> str:
        """The end of what the last process printed, in a line that is safe on a terminal; empty without any."""
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self.log_offset, size - LAST_BYTES))
                raw = log.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [words for line in raw.splitlines() if (words := _readable(line))]
        return " ".join(lines[-LAST_LINES:])[-LONGEST_WORDS:]


def _readable(line: str) -> str:
    """What a line of JSON says, else all that is printable, without the number and the clock of a store."""
    try:
        logged = loads(line)
        line = ": ".join(str(logged[name]) for name in ("event", "error") if name in logged)
    except (ValueError, TypeError):
        line = re.sub(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ . ", "", line)
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
