"""Store of dead letters: messages that could not be applied. Written by ingest and by operators."""

from recsys.settings import LogSettings
from recsys.stores.dead_letters.protocol import DeadLetters

__all__ = ["DeadLetters", "open_dead_letters"]


def open_dead_letters(settings: LogSettings) -> DeadLetters:
    """The dead letters beside that log."""
    if settings.backend == "memory":
        from recsys.stores.dead_letters.memory import MemoryDeadLetters

        return MemoryDeadLetters()
    from recsys.stores.dead_letters.delta import DeltaDeadLetters

    return DeltaDeadLetters(settings.path)
