"""Supervisor: child processes of one machine, restarted when they die, stopped in order and never left behind."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from rich.text import Text

from millirec.standalone.child import Child
from millirec.standalone.process_record import ProcessRecord, path_in, write_record
from millirec.terminal import errors
from recsys.errors import InvalidInput
from recsys.retries import backoffs

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 30.0
STEADY = 3.0
"""Seconds that a process has to run before it is called back in service."""


@dataclass
class _Watch:
    """A child and its recorded state."""

    child: Child
    record: ProcessRecord
    pauses: Iterator[float] = field(default_factory=lambda: backoffs(FIRST_BACKOFF, MAX_BACKOFF))
    due: float | None = None
    """When it is started again; nothing while it runs, or has not been seen dead."""
    cause: str = ""
    """Of its last end, which people have read of."""


class Supervisor:
    """Runs children and restarts them. Ctrl-C reaches only this process, which stops them in reverse order of start.

    On Linux they also end when it is killed, except for those that outlive it.
    """

    def __init__(self, data: Path) -> None:
        """Logs go to `data/logs`, the state of each process to a record beside it."""
        self._data = data
        self._watches: list[_Watch] = []
        (data / "logs").mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        url: str = "",
        **options: Any,
    ) -> Child:
        """Run `command`, which answers at `url`; what it prints goes to `logs/NAME.log`.

        `options` are fields of `Child`.
        """
        child = Child(name, command, self._data / "logs" / f"{name}.log", environment, **options)
        child.spawn()
        self._watches.append(_Watch(child, ProcessRecord(name, str(child.log_path), child.pid, url)))
        self._write_record()
        return child

    def tend(self) -> None:
        """Restart children that ended, after a longer pause each time while they keep ending early.

        Raises `InvalidInput` where a process exits at its first start because its settings can never work.
        """
        for watch in self._watches:
            age = monotonic() - watch.child.started_at
            if watch.child.running:
                if not watch.record.running and age > STEADY and watch.child.answers():
                    self._note_recovery(watch)
            elif watch.due is None:
                self._note_end(watch, age)
            elif monotonic() >= watch.due:
                self._restart(watch)

    def stop(self) -> None:
        """Stop one child after the other, the last started first."""
        for watch in reversed(self._watches):
            if watch.child.stop():
                errors.print(f"{watch.child.name} did not stop in time and was killed", highlight=False, soft_wrap=True)
        self._watches.clear()
        with suppress(OSError):
            path_in(self._data).unlink(missing_ok=True)

    def _note_end(self, watch: _Watch, age: float) -> None:
        child, record = watch.child, watch.record
        record.running, record.ended_at = False, datetime.now(UTC)
        record.ending, record.words = child.ending(), child.last_words()
        if child.refused and child.starts == 1:
            reason = f"refuses to start: {record.words or 'it does not say why'} (its log: {child.log_path})"
            raise InvalidInput(child.name, reason)
        if age > MAX_BACKOFF:
            watch.pauses, watch.cause = backoffs(FIRST_BACKOFF, MAX_BACKOFF), ""
        watch.due = monotonic() + next(watch.pauses)
        self._report(watch)
        self._write_record()

    def _report(self, watch: _Watch) -> None:
        """Print why a process ended, each cause once; numbers such as ids and times do not make a new cause."""
        record = watch.record
        cause = re.sub(r"\d+", "", f"{record.ending} {record.words}")
        if cause == watch.cause:
            return
        watch.cause = cause
        text = f"{record.name} ended ({record.ending}){record.words and ': '}{record.words}"
        errors.print(Text(text, style="red"), highlight=False, soft_wrap=True)
        errors.print(
            f"  It is started again as often as it takes. Its log: {record.log}", highlight=False, soft_wrap=True
        )

    def _restart(self, watch: _Watch) -> None:
        watch.due = None
        try:
            watch.child.spawn()
        except OSError as error:
            watch.due = monotonic() + MAX_BACKOFF
            errors.print(f"{watch.record.name} cannot be started: {error}", highlight=False, soft_wrap=True)
        watch.record.pid, watch.record.restarts = watch.child.pid, watch.record.restarts + 1
        self._write_record()

    def _note_recovery(self, watch: _Watch) -> None:
        watch.record.running = True
        errors.print(f"{watch.record.name} is back", highlight=False, soft_wrap=True)
        self._write_record()

    def _write_record(self) -> None:
        write_record(self._data, [watch.record for watch in self._watches])
