"""Logs as JSON lines (or for people, on a terminal) and the shapes metrics share."""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from recsys.observability.text import masked, printable

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.02, 0.035, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5)
"""Seconds; fine around the few milliseconds an answer takes."""

TRACEBACKS = ("exception", "stack")


class _StandardError:
    """Writes to the present `sys.stderr`: loggers are made once, and a caller who runs a command in-process may have
    put another in its place since. A line that cannot be written (a full disk) is dropped without an error.
    """

    def write(self, text: str) -> int:
        """Write `text` where that is possible; the number of characters in any case."""
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush where that is possible."""
        with suppress(OSError):
            sys.stderr.flush()


def configure_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Log to standard error: JSON lines unless it is a terminal, or as `json` says."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        # Not the one that shows local variables: passwords are among them.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    tail: list[structlog.types.Processor] = [
        structlog.processors.format_exc_info,
        _write_out,
        renderer,
        _without_secrets,
    ]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_foreign_handler(shared, tail)]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def _write_out(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write control characters out, so that no message, id or error moves the cursor or begins a line of the log."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, lines=name in TRACEBACKS)
    return event


def _without_secrets(_: Any, __: str, line: Any) -> str:
    return masked(str(line))


def _foreign_handler(shared: list[structlog.types.Processor], tail: list[structlog.types.Processor]) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    return handler
