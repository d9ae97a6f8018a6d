"""Rollouts: a new version beside the live one, unseen as a shadow, or for a few users as a canary."""

from typing import Any

from nicegui import ui

from millirec.console.panels import canary, shadow
from millirec.console.service.client import ApiClient, ApiDown, ApiProblem
from millirec.console.widgets.notices import Hand, banner, empty
from millirec.console.widgets.page_registry import page

EVERY = 5.0
"""Seconds between looks at how a rollout goes."""


@page("/rollouts", title="Rollouts", icon="call_split", key="r", order=30)
async def rollouts(api: ApiClient) -> None:
    """Draw the canary and the shadow."""
    await RolloutsPage(api).build()


class RolloutsPage:
    """The page with the canary and the shadow."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._shown: object = None
        self._hands: dict[str, Hand] = {}

    async def build(self) -> None:
        """Draw both cards, and look for changes every few seconds."""
        self._canary = ui.card().classes("w-full min-w-0 gap-4")
        self._shadow = ui.card().classes("w-full min-w-0 gap-4")
        if not await self._show():
            for card in (self._canary, self._shadow):
                card.delete()
            banner("This service is older than the console: it has no rollouts. Upgrade it to use them.", icon="update")
            return
        ui.timer(EVERY, self._look)

    async def _look(self) -> None:
        if any(hand.near for hand in self._hands.values()):
            return
        try:
            await self._show()
        except ApiDown:
            return

    async def _show(self) -> bool:
        """Draw what has changed. False where the service has no rollouts."""
        try:
            answer = await self._api.get("/rollouts")
        except ApiProblem as problem:
            if problem.status == 404:
                return False
            raise
        if answer == self._shown:
            return True
        previous: dict[str, Any] = self._shown if isinstance(self._shown, dict) else {}
        versions = (await self._api.get("/versions"))["versions"]
        for card, name, panel in ((self._canary, "canary", canary), (self._shadow, "shadow", shadow)):
            rollout = answer[name]
            # A form is drawn once, so that what is being typed stays.
            if rollout is None and name in previous and previous[name] is None:
                continue
            card.clear()
            self._hands.pop(name, None)
            with card:
                if rollout is not None:
                    self._hands[name] = panel.running(rollout, self._api, self._show_anew)
                elif len(versions) < 2:
                    title = name.capitalize()
                    empty(title, "This takes a second version to try. Train one: millirec train.", "call_split")
                else:
                    panel.start_form(versions, self._api, self._show_anew)
        self._shown = answer
        return True

    async def _show_anew(self) -> None:
        await self._show()
