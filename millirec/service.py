"""The service as uvicorn opens it, in each worker process."""

import gc
import sys
from collections import Counter

from app.main import create_app
from app.metrics import CONNECTIONS, CONNECTIONS_ENDED
from app.server.connections import Connections
from app.server.draining import Draining
from app.server.limits import Limits
from millirec import __version__
from millirec.admin.routes import operator_routes
from millirec.settings import load_settings
from millirec.terminal import explain
from recsys.errors import RecsysError
from recsys.observability.telemetry import configure_logging

SWITCH_INTERVAL = 0.0005
"""Seconds; Python's own 0.005 make ten of each request that meets a thread at work."""


def create() -> Draining:
    """Build the service from the settings in force. Imported only by the server, after it decided on shared metrics."""
    try:
        settings = load_settings()
    except RecsysError as error:
        # A worker that starts later than its parent may find other settings.
        sys.exit(explain(error))
    configure_logging(settings.serve.log_level)
    connections = Connections(Limits.of(settings.serve), observe)
    service = Draining(
        create_app(settings.app(), __version__, operator_routes(settings)), settings.serve.drain_wait, connections
    )
    # All that was imported stays: full collections need not look at it again, and hold requests up for less.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind; looking for some every few of them costs the 99th percentile a third.
    # Threads work beside the event loop, which waits for the interpreter for so long at each step of a request.
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(50_000, 20, 100)
    return service


def observe(connections: int, ended: Counter[str]) -> None:
    """Record the open connections, and those that ended by cause, as metrics."""
    CONNECTIONS.set(connections)
    for cause, count in ended.items():
        CONNECTIONS_ENDED.labels(cause).inc(count)
