"""Startup: what runs on this machine is reported as up once it answers; what does not answer is named."""

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from time import monotonic
from urllib.parse import urlsplit

from millirec.terminal import console, errors

TIMEOUT = 1.0
"""Seconds that a process on this machine has for its answer."""
PATIENCE = 60.0
"""Seconds until what does not answer yet is named; it goes on being waited for."""
INTERVAL = 0.2


class Startup:
    """Prints `lines` once each of `urls` answers."""

    def __init__(self, urls: Mapping[str, str], lines: Sequence[str]) -> None:
        self._pending = dict(urls)
        self._lines = lines
        self._complain_at = monotonic() + PATIENCE
        console.print(f"starting: {', '.join(urls)}", highlight=False)

    def look(self) -> None:
        """Check the URLs that have not answered yet; to be called repeatedly."""
        if not self._pending:
            return
        self._pending = {name: url for name, url in self._pending.items() if not answers(url)}
        if not self._pending:
            for line in self._lines:
                console.print(line, highlight=False, soft_wrap=True)
        elif monotonic() > self._complain_at:
            self._complain_at = float("inf")
            names = ", ".join(self._pending)
            errors.print(f"after {PATIENCE:.0f} s without an answer: {names}; still waiting", highlight=False)


def answers(url: str) -> bool:
    """Return whether a URL on this machine answers without an error; plain HTTP, which loads no certificates."""
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, timeout=TIMEOUT)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def wait_for_end(*tasks: Callable[[], None]) -> None:
    """Do `tasks` in turn until SIGINT or SIGTERM."""
    ended = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not ended.wait(INTERVAL):
            for task in tasks:
                task()
    finally:
        for number, previous in handlers.items():
            signal.signal(number, previous)
    console.print("stopping: finishing what is in hand")
