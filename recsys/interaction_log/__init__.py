"""Seam: ingest appends interactions, training reads them as of a version."""

from recsys.interaction_log.protocol import INTERACTION_SCHEMA, READ_SCHEMA, InteractionLog
from recsys.interaction_log.rows import interaction_rows
from recsys.settings import LogSettings

__all__ = ["INTERACTION_SCHEMA", "READ_SCHEMA", "InteractionLog", "interaction_rows", "open_interaction_log"]


def open_interaction_log(settings: LogSettings) -> InteractionLog:
    """The log that `settings.backend` names; created on first append."""
    if settings.backend == "memory":
        from recsys.interaction_log.memory import MemoryInteractionLog

        return MemoryInteractionLog()
    from recsys.interaction_log.delta import DeltaInteractionLog

    return DeltaInteractionLog(settings.path)
