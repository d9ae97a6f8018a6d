"""Retraining: train by the clock or when new data calls for it, until stopped."""

import signal
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from millirec.settings import Settings
from millirec.terminal import console
from recsys.errors import RecsysError
from recsys.models.alias_move import LIVE
from recsys.scratch import collect
from recsys.stores.model_registry import open_model_registry

if TYPE_CHECKING:
    from training.runs.triggers import Schedule, Triggers

log = structlog.get_logger()

LONGEST_PAUSE = 86_400.0


def retrain(settings: Settings, schedule: "Schedule", triggers: "Triggers", train: Callable[[str], str]) -> None:
    """Call `train` with the reason when a run is due, until SIGTERM or SIGINT. A bad schedule raises `InvalidInput`."""
    schedule.check(_now())
    collect()
    ended = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: ended.set())
    failures, find_reasons = 0, _reasons_for(settings, triggers)
    while reason := _wait(settings, schedule, find_reasons, ended, failures):
        # Whatever goes wrong in one run, the next one is to have its chance; live is moved only by a run that ended.
        try:
            version = train(reason)
        except Exception as error:
            failures += 1
            is_recsys_error = isinstance(error, RecsysError)
            log.error("scheduled training did not produce a version", error=str(error), exc_info=not is_recsys_error)
        else:
            failures = 0
            log.info("scheduled training promoted a version", version=version, reason=reason)


def _wait(
    settings: Settings,
    schedule: "Schedule",
    find_reasons: Callable[[], list[str]] | None,
    ended: threading.Event,
    failures: int,
) -> str:
    """Wait until there is a reason to train and return it; empty when retraining is to end.

    Triggers stay true after a run that failed: they wait twice as long after each failure.
    """
    following = schedule.next(_now())
    occasions = [f"at {following:%Y-%m-%d %H:%M:%S %Z}"] if following else []
    occasions += ["when enough has changed"] if find_reasons else []
    console.print(f"next run: {', or '.join(occasions)}", highlight=False)
    pause = min(settings.train.trigger_seconds * 2.0**failures, LONGEST_PAUSE)
    while True:
        seconds = (following - _now()).total_seconds() if following else pause
        if ended.wait(max(min(seconds, pause), 0.0)):
            return ""
        if following and _now() >= following:
            return "scheduled training"
        if find_reasons and (reasons := find_reasons()):
            return f"triggered training: {', '.join(reasons)}"


def _reasons_for(settings: Settings, triggers: "Triggers") -> Callable[[], list[str]] | None:
    """Return a function that checks the log and the registry for reasons to train; None without any trigger."""
    from recsys.stores.event_log import open_interaction_log
    from training.runs.metric_drop import MetricWatch
    from training.runs.triggers import due, since

    if not triggers:
        return None
    registry, events = open_model_registry(settings.registry), open_interaction_log(settings.log)
    watch = None if triggers.drop is None else MetricWatch(settings.train, triggers.drop, triggers.shift_events)

    def reasons() -> list[str]:
        """Return the reasons to train now."""
        live = registry.alias(LIVE)
        if live is None:
            return ["there is no live version"]
        manifest = registry.manifest(live.version)
        changes = since(events, manifest, shares=triggers.shift is not None)
        causes = due(triggers, changes)
        if watch is not None:
            causes += watch.reasons(events, registry, manifest, changes.new_events, settings.registry.cache)
        return causes

    def logged_reasons() -> list[str]:
        """Return the reasons to train now, none where they cannot be checked."""
        try:
            return reasons()
        except RecsysError as error:
            log.warning("cannot tell whether to train", error=str(error))
            return []

    return logged_reasons


def _now() -> datetime:
    return datetime.now().astimezone()
