"""PlacementWatcher: brings operators' placements to each replica within a second; on failure the last ones hold."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from app.metrics import LOAD_FAILURES
from recsys.background import DeadlineRunner
from recsys.errors import RegistryUnavailable, StoreUnavailable
from recsys.observability.throttle import log_throttled
from recsys.observability.unreadable import REGISTRY_ENTRY, note_unreadable
from recsys.recommender.placement import READY_MADE, Placement, PlacementChange
from recsys.stores.notifications import PLACEMENTS_CHANNEL, Notifications
from recsys.stores.settings_log import SettingsLog
from recsys.whole_file import write_whole

log = structlog.get_logger()
READ_DEADLINE = 5.0
RECORD = ".placements.json"

Changes = dict[str, PlacementChange]


class PlacementWatcher:
    """Keeps `current`: the ready-made placements, over them the configured, over them what operators set.

    `changes` is the newest change per name. They are also kept in `cache`, for a replica that starts while the
    registry is away.
    """

    def __init__(
        self,
        settings_log: SettingsLog,
        cache: Path,
        notifications: Notifications,
        *,
        configured: Mapping[str, Placement],
        poll_interval: float,
    ) -> None:
        self._settings_log = settings_log
        self._record = cache / RECORD
        self._notifications = notifications
        self.base: Mapping[str, Placement] = {**READY_MADE, **configured}
        self._poll_interval = poll_interval
        self._calls = DeadlineRunner()
        self._checking = asyncio.Lock()
        self.changes: Changes | None = None
        self.current: Mapping[str, Placement] = self.base

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        while True:
            await self.check()
            try:
                await self._notifications.wait(PLACEMENTS_CHANNEL, self._poll_interval)
            except StoreUnavailable:
                await asyncio.sleep(self._poll_interval)

    async def check(self) -> None:
        """Take over what has changed; log and count what goes wrong."""
        async with self._checking:
            try:
                changes = await self._calls.run(READ_DEADLINE, self._settings_log.newest)
            except (RegistryUnavailable, TimeoutError) as error:
                LOAD_FAILURES.labels("placements_unavailable").inc()
                log_throttled(log, "warning", "placements cannot be read, serving with those known", error=str(error))
                if self.changes is None:
                    self._take_over(await asyncio.to_thread(_remembered, self._record))
                return
            if changes != self.changes:
                self._take_over(changes)
                await asyncio.to_thread(_remember, self._record, changes)

    def _take_over(self, changes: Changes) -> None:
        current = dict(self.base)
        for name, change in changes.items():
            if change.placement is not None:
                current[name] = change.placement
        if current != self.current:
            log.info("placements changed", names=sorted(changes))
        self.changes, self.current = changes, current


def _remember(record: Path, changes: Changes) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, msgspec.json.encode(changes), durable=True)
    except OSError as error:
        log.warning("placements cannot be kept for the next start", error=str(error))


def _remembered(record: Path) -> Changes:
    try:
        entries = msgspec.json.decode(record.read_bytes(), type=dict[str, msgspec.Raw])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("the placements of the last start cannot be read", error=str(error))
        return {}
    changes: Changes = {}
    for name, entry in entries.items():
        try:
            changes[name] = msgspec.json.decode(entry, type=PlacementChange)
        except msgspec.DecodeError as error:
            note_unreadable(REGISTRY_ENTRY, name, error)
    return changes
