"""Where a pointer is: what somebody is about to click must not vanish or change."""

from nicegui import ui


class Hand:
    """Tracks whether a pointer is over an element, which timers do not redraw then."""

    def __init__(self, element: ui.element) -> None:
        self.near = False
        element.on("pointerenter", self._came, args=[])
        element.on("pointerleave", self._went, args=[])

    def _came(self) -> None:
        self.near = True

    def _went(self) -> None:
        self.near = False
