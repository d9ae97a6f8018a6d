"""The settings log: what operators set at run time (placements), as an append-only sequence per name."""

from typing import Protocol

from recsys.recommender.placement import Placement, PlacementChange


class SettingsLog(Protocol):
    """Placements and their history. Methods block: call them from a thread. All raise `RegistryUnavailable`."""

    def newest(self) -> dict[str, PlacementChange]:
        """The newest change of every placement that was ever changed; one that was taken back says `None`."""
        ...

    def history(self, name: str) -> list[PlacementChange]:
        """The changes of placement `name`, oldest first."""
        ...

    def change(self, name: str, placement: Placement | None, *, actor: str) -> PlacementChange:
        """Set placement `name`, or take back what was set with `None`.

        Raises `InvalidInput` for what is no name, `Conflict` when another change won.
        """
        ...
