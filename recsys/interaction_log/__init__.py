"""Seam: ingest appends interactions, training reads them as of a version."""

from recsys.interaction_log.letters import DeadLetters
from recsys.interaction_log.protocol import INTERACTION_SCHEMA, READ_SCHEMA, InteractionLog
from recsys.interaction_log.rows import MAX_DATES, interaction_rows
from recsys.settings import LogSettings

__all__ = [
    "INTERACTION_SCHEMA",
    "MAX_DATES",
    "READ_SCHEMA",
    "DeadLetters",
    "InteractionLog",
    "interaction_rows",
    "open_dead_letters",
    "open_interaction_log",
]


def open_interaction_log(settings: LogSettings) -> InteractionLog:
    """The log that `settings.backend` names; created on first append."""
    if settings.backend == "memory":
        from recsys.interaction_log.memory import MemoryInteractionLog

        return MemoryInteractionLog()
    from recsys.interaction_log.delta import DeltaInteractionLog

    return DeltaInteractionLog(settings.path)


def open_dead_letters(settings: LogSettings) -> DeadLetters:
    """The dead letters beside that log."""
    if settings.backend == "memory":
        from recsys.interaction_log.memory_letters import MemoryDeadLetters

        return MemoryDeadLetters()
    from recsys.interaction_log.delta_letters import DeltaDeadLetters

    return DeltaDeadLetters(settings.path)
