"""A canary: its step, its guardrails, and the buttons to advance and stop it."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient
from millirec.console.widgets.dialogs import ask_reason
from millirec.console.widgets.notices import Hand, banner
from millirec.console.widgets.theme import BAD, GOOD, GREY

Json = dict[str, Any]
Reload = Callable[[], Awaitable[None]]
STEPS = "1, 5, 25, 100"
"""Per cent of the users."""
WORDS = {
    "converted": "Users who convert",
    "failed": "Users with a failed request",
    "fallback": "Users with a worse fallback level",
    "slow": "Users with a slow answer",
}
LEAST_WIDTH = 0.001
"""Half of what the axis of an interval spans at least, as a rate."""


def running(canary: Json, api: ApiClient, reload: Reload) -> Hand:
    """Draw the card of a canary from GET /rollouts. Returns the hand over its buttons."""
    version = canary["version"]

    async def advance() -> None:
        """Ask for a reason and move to the next step."""
        text = "More users get the canary now, whatever the guardrails wait for; after the last step it is promoted."
        reason = await ask_reason(api, "Advance the canary?", text, "Advance")
        if reason:
            await api.post("/rollouts/canary/advance", {"reason": reason}, timeout=60.0)
            await reload()

    async def stop() -> None:
        """Ask for a reason and end the canary."""
        text = f"Everybody gets {canary['control']} again."
        reason = await ask_reason(api, "Stop the canary?", text, "Stop", danger=True)
        if reason:
            await api.post("/rollouts/canary/stop", {"reason": reason}, timeout=60.0)
            await reload()

    with ui.row().classes("w-full items-center justify-between gap-2"):
        with ui.row().classes("items-center gap-2"):
            ui.label("Canary").classes("font-medium")
            ui.link(version, f"/versions?version={version}").classes("m-mono")
            ui.label(f"against {canary['control']}").classes("m-dim m-mono")
        with ui.row().classes("gap-2") as buttons:
            ui.button("Advance", icon="skip_next", on_click=advance).props("no-caps outline")
            ui.button("Stop", icon="stop", on_click=stop).props("no-caps unelevated color=negative")
    _steps(canary)
    breached = any(outcome["breached"] for outcome in canary["outcomes"])
    banner(canary["verdict"], kind="bad" if breached else "info", icon="gavel")
    if not canary.get("loaded", True):
        banner("The replica that was asked has not loaded the canary yet.", kind="warn", icon="hourglass_empty")
    for outcome in canary["outcomes"]:
        _interval(outcome)
    since = canary["step_since"][:16].replace("T", " ")
    ui.label(
        f"Started {canary['started_at'][:16].replace('T', ' ')}, at this step since {since} (UTC). "
        "Intervals hold at all times: looking often is safe."
    ).classes("m-dim text-sm")
    return Hand(buttons)


def start_form(versions: list[Json], api: ApiClient, reload: Reload) -> None:
    """Draw the form that starts a canary."""
    ui.label("Canary").classes("font-medium")
    ui.label(
        "A share of the users, always the same, is answered by another version, in growing steps. A guardrail that is "
        "breached takes it back by itself."
    ).classes("m-dim")
    names = [entry["version"] for entry in reversed(versions) if "live" not in entry["aliases"]]
    with ui.row().classes("w-full items-end gap-3"):
        version = ui.select(names, label="Version").props("outlined dense").classes("min-w-[240px]")
        steps = ui.input("Steps, % of the users", value=STEPS).props("outlined dense")
        hours = ui.number("Hours per step", value=1, min=0, max=8760).props("outlined dense").classes("w-36")

        async def start() -> None:
            """Check the form, ask for a reason and start the canary."""
            shares = shares_of(steps.value or "")
            if shares is None:
                ui.notify("Steps are growing percentages, such as 1, 5, 25, 100", type="warning")
                return
            text = f"{100 * shares[0]:g} % of the users get it at once, and more of them step by step."
            reason = await ask_reason(api, f"Start {version.value} as a canary?", text, "Start")
            if reason:
                body = {"version": version.value, "reason": reason, "steps": shares, "step_hours": hours.value or 0}
                await api.post("/rollouts/canary", body, timeout=60.0)
                await reload()

        button = ui.button("Start", icon="play_arrow", on_click=start).props("no-caps unelevated")
        button.bind_enabled_from(version, "value", bool)


def shares_of(text: str) -> list[float] | None:
    """Return the steps that were typed, as shares; None for what is not a list of growing percentages."""
    try:
        shares = [float(part.strip().removesuffix("%")) / 100 for part in text.split(",") if part.strip()]
    except ValueError:
        return None
    growing = all(share < following for share, following in pairwise(shares))
    return shares if shares and growing and shares[0] > 0 and shares[-1] <= 1 else None


def _steps(canary: Json) -> None:
    with ui.element("div").classes("m-steps").props('role="list" aria-label="Steps"'):
        for share in canary["steps"]:
            step = ui.element("div").classes("m-step").props('role="listitem"')
            if share == canary["share"]:
                step.props("aria-current=step")
            elif share < canary["share"]:
                step.classes("m-past")
            with step:
                ui.label(f"{100 * share:g} %")


def _interval(outcome: Json) -> None:
    """Draw the difference of canary and control, with its interval around a zero in the middle."""
    low, high, estimate = outcome["low"], outcome["high"], outcome["difference"]
    has_interval = low is not None and high is not None
    with ui.column().classes("w-full gap-1"):
        with ui.row().classes("w-full items-baseline justify-between gap-x-4 gap-y-0"):
            ui.label(WORDS.get(outcome["name"]) or str(outcome["name"]))
            ui.label(
                f"{outcome['canary_rate']:.2%} of {outcome['canary_users']:,} with the canary, "
                f"{outcome['control_rate']:.2%} of {outcome['control_users']:,} without"
            ).classes("m-dim text-sm")
        if not has_interval:
            ui.label("Not enough users yet for an interval.").classes("m-dim text-sm")
            return
        reach = max(abs(low), abs(high), LEAST_WIDTH) * 1.1
        words = f"{100 * estimate:+.2f} points, between {100 * low:+.2f} and {100 * high:+.2f}"
        _track(low, high, estimate, reach, _colour(outcome)).props(f'role="img" aria-label="{words}"')
        with ui.row().classes("w-full justify-between text-xs m-dim no-wrap"):
            ui.label(f"{-100 * reach:+.2f} points")
            ui.label(words).classes("text-center")
            ui.label(f"{100 * reach:+.2f} points")


def _track(low: float, high: float, estimate: float, reach: float, colour: str) -> ui.element:
    def position(value: float) -> float:
        """Return where a value lies on the track, in per cent from the left."""
        return 50 + 50 * value / reach

    with ui.element("div").classes("m-track") as track:
        ui.element("div").style(f"left: calc(50% - 1px); width: 2px; background: {GREY}; opacity: .6")
        bar = (
            f"left: {position(low):.2f}%; width: {max(position(high) - position(low), 0.5):.2f}%; background: {colour}"
        )
        ui.element("div").style(f"{bar}; top: 11px; bottom: 11px; border-radius: 6px; opacity: .55")
        dot = f"left: calc({position(estimate):.2f}% - 6px); width: 12px; top: 11px; bottom: 11px; background: {colour}"
        ui.element("div").style(f"{dot}; border-radius: 50%")
    return track


def _colour(outcome: Json) -> str:
    if outcome["breached"]:
        return BAD
    better = outcome["low"] > 0 if outcome["harm"] == "fewer" else outcome["high"] < 0
    return GOOD if better else GREY
