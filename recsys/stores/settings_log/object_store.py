"""The settings log on an object store, beside the model registry: it outlives versions, models and their formats.

placements/{name}/{sequence:08d}.json   one per change
"""

from datetime import UTC, datetime

import msgspec

from recsys.clients.objects import Objects
from recsys.errors import InvalidInput
from recsys.recommender.placement import Placement, PlacementChange, PlacementName

FOLDER = "placements"


class ObjectStoreSettingsLog:
    """A `SettingsLog` in `objects`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def newest(self) -> dict[str, PlacementChange]:
        """See `SettingsLog.newest`; in one listing."""
        return self._objects.newest_of_each(FOLDER, PlacementChange)

    def history(self, name: str) -> list[PlacementChange]:
        """See `SettingsLog.history`; a change that cannot be read is logged and left out."""
        if not _is_name(name):
            return []
        return [*self._objects.newest_first(f"{FOLDER}/{name}", PlacementChange)][::-1]

    def change(self, name: str, placement: Placement | None, *, actor: str) -> PlacementChange:
        """See `SettingsLog.change`."""
        if not _is_name(name):
            raise InvalidInput("placement", f"{name!r} is not a valid placement name")
        changed_at = datetime.now(UTC)
        return self._objects.append(
            f"{FOLDER}/{name}",
            lambda sequence: PlacementChange(
                name=name, sequence=sequence, changed_at=changed_at, actor=actor, placement=placement
            ),
        )


def _is_name(name: str) -> bool:
    try:
        msgspec.convert(name, PlacementName)
    except msgspec.ValidationError:
        return False
    return True
