"""Where somebody points: what they are about to click must neither vanish nor turn into something else."""

from nicegui import ui


class Hand:
    """Whether a pointer is over an element; whatever draws by a timer leaves it alone meanwhile."""

    def __init__(self, element: ui.element) -> None:
        self.near = False
        element.on("pointerenter", self._came, args=[])
        element.on("pointerleave", self._went, args=[])

    def _came(self) -> None:
        self.near = True

    def _went(self) -> None:
        self.near = False
