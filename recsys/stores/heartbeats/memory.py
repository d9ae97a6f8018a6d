"""The store of heartbeats inside one process, for tests and experiments; nothing outlives it."""

from time import monotonic

from recsys.stores.heartbeats.protocol import FORGOTTEN_SECONDS, Heartbeat, Instance


class MemoryHeartbeatStore:
    """A `HeartbeatStore` in a dictionary."""

    def __init__(self) -> None:
        self._heartbeats: dict[str, tuple[float, Heartbeat]] = {}

    async def report(self, heartbeat: Heartbeat) -> None:
        """See `HeartbeatStore.report`."""
        self._heartbeats[heartbeat.process] = (monotonic(), heartbeat)

    async def leave(self, process: str) -> None:
        """See `HeartbeatStore.leave`."""
        self._heartbeats.pop(process, None)

    async def instances(self) -> list[Instance]:
        """See `HeartbeatStore.instances`; ages are by the monotonic clock of this process."""
        now_seconds = monotonic()
        instances = [Instance(heartbeat, now_seconds - at) for at, heartbeat in self._heartbeats.values()]
        fresh = [instance for instance in instances if instance.age <= FORGOTTEN_SECONDS]
        return sorted(fresh, key=lambda instance: (instance.heartbeat.program, instance.heartbeat.process))
