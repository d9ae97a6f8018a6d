"""Child: a process of this machine that is started, watched and stopped; how it ended, and its last output."""

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
    """A process with its command, log file and current run. It is restarted by `Supervisor`, never by itself."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str] | None = None
    stop_timeout: float = 15.0
    """Seconds from SIGTERM to SIGKILL."""
    outlives: bool = False
    """Whether it keeps running when its supervisor is killed, since it holds data in memory."""
    answers: Callable[[], bool] = lambda: True
    """Whether it works again after it had ended."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    starts: int = 0
    log_offset: int = 0

    @property
    def running(self) -> bool:
        """Whether the process runs now."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id, 0 before the first start."""
        return 0 if self.process is None else self.process.pid

    @property
    def refused(self) -> bool:
        """Whether it exited because its settings or input can never work. False for a store: its exit codes differ."""
        return not self.outlives and self.process is not None and self.process.returncode == REFUSED

    def spawn(self) -> None:
        """Start the process in a session of its own, out of reach of Ctrl-C, with its output in `log_path`."""
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
        """Send SIGTERM, and SIGKILL after `stop_timeout`. Returns whether SIGKILL was needed."""
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
        """Return how the last process ended, for people."""
        code = None if self.process is None else self.process.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def last_words(self) -> str:
        """Return the end of the last output, as one line that is safe on a terminal; empty without any."""
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
    """Return the message of a JSON log line, else its printable text without the prefix of a Valkey log line."""
    try:
        logged = loads(line)
        line = ": ".join(str(logged[name]) for name in ("event", "error") if name in logged)
    except (ValueError, TypeError):
        line = re.sub(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ . ", "", line)
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
