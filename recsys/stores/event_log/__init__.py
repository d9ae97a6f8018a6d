"""Seam: ingest appends interactions, training reads them as of a version."""

from recsys.settings import LogSettings
from recsys.stores.event_log.protocol import INTERACTION_SCHEMA, READ_SCHEMA, InteractionLog
from recsys.stores.event_log.rows import MAX_DATES, interaction_rows

__all__ = [
    "INTERACTION_SCHEMA",
    "MAX_DATES",
    "READ_SCHEMA",
    "InteractionLog",
    "interaction_rows",
    "open_interaction_log",
]


def open_interaction_log(settings: LogSettings) -> InteractionLog:
    """The log that `settings.backend` names; created on first append."""
    if settings.backend == "memory":
        from recsys.stores.event_log.memory import MemoryInteractionLog

        return MemoryInteractionLog()
    from recsys.stores.event_log.delta import DeltaInteractionLog

    return DeltaInteractionLog(settings.path)
