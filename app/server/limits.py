"""Limits of connections, and of the open files of a process, which include connections."""

import resource
from dataclasses import dataclass

from app.settings import ServeSettings

FILES = resource.RLIMIT_NOFILE
BOUNDLESS = 1 << 20
RESERVE = 128
"""Files of the service's own: connections to the store and the topic, the spool, versions, metrics."""
SPARE = 16
"""Connections over the limit that may still ask for health."""
MAX_PATH = 4096
"""Bytes of a path, which is decoded before anything is known of who asks; two ids of the longest take 3 KB."""
MAX_PIPELINE = 32
"""Requests that may be sent ahead of the answers; the connection closes behind them."""
HEALTH = b"/health/"
"""Beginning of the paths of health checks."""
LINGER = 2.0
"""Seconds for a peer to stop sending once it was refused."""
LINGER_BYTES = 2_097_152
"""Bytes that a refused peer may still send; they are ignored."""
DEFAULT_CONNECTIONS = 4096
"""Connections of a process where the settings say nothing; one costs about 10 KB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on connections and requests: sizes in bytes, times in seconds."""

    connections: int = DEFAULT_CONNECTIONS
    head_bytes: int = 32_768
    head_fields: int = 100
    head_timeout: float = 10.0
    body_timeout: float = 10.0
    write_timeout: float = 10.0

    @classmethod
    def of(cls, settings: ServeSettings) -> "Limits":
        """Return the limits of the settings, as far as this process may open files."""
        return cls(
            connections=max_connections(settings, open_files()[0]),
            head_bytes=settings.max_head_bytes,
            head_fields=settings.max_head_fields,
            head_timeout=settings.head_timeout,
            body_timeout=settings.body_timeout,
            write_timeout=settings.write_timeout,
        )


def max_connections(settings: ServeSettings, files: int) -> int:
    """Return the connections of one process that may have `files` open."""
    possible = files - min(RESERVE, files // 2) - SPARE
    return max(1, min(settings.max_connections or DEFAULT_CONNECTIONS, possible))


def needed_files(settings: ServeSettings) -> int:
    """Return how many files a process needs to have open at most."""
    return (settings.max_connections or DEFAULT_CONNECTIONS) + RESERVE + SPARE


def open_files() -> tuple[int, int]:
    """Return how many files this process may have open: the limit in force, and the one it may be raised to."""
    soft, hard = (BOUNDLESS if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(FILES))
    return soft, hard


def raise_open_files(settings: ServeSettings) -> None:
    """Raise the limit of open files to what the connections need, as far as allowed; children inherit it."""
    soft, hard = open_files()
    needed = min(needed_files(settings), hard)
    if soft < needed:
        resource.setrlimit(FILES, (needed, resource.getrlimit(FILES)[1]))
