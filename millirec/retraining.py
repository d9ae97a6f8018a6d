"""Retraining: train by the clock or when something calls for it, until told to stop."""

import signal
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from millirec.settings import Settings
from millirec.terminal import console
from recsys.errors import RecsysError
from recsys.index_registry import open_index_registry
from recsys.index_version import LIVE
from recsys.scratch import collect

if TYPE_CHECKING:
    from training.schedule import Schedule
    from training.triggers import Triggers

log = structlog.get_logger()

LONGEST_PAUSE = 86_400.0


def retrain(settings: Settings, schedule: "Schedule", triggers: "Triggers", train: Callable[[str], str]) -> None:
    """Call `train` with the reason, now and then until SIGTERM or SIGINT. Raises `InvalidInput` for no schedule."""
    schedule.check(_now())
    collect()
    ended = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: ended.set())
    failures, why = 0, _reasons_for(settings, triggers)
    while reason := _wait(settings, schedule, why, ended, failures):
        # Whatever goes wrong in one run, the next one is to have its chance; live is moved only by a run that ended.
        try:
            version = train(reason)
        except Exception as error:
            failures += 1
            known = isinstance(error, RecsysError)
            log.error("scheduled training did not produce a version", error=str(error), exc_info=not known)
        else:
            failures = 0
            log.info("scheduled training promoted a version", version=version, reason=reason)


def _wait(
    settings: Settings, schedule: "Schedule", why: Callable[[], list[str]] | None, ended: threading.Event, failures: int
) -> str:
    """Why to train, once there is a reason; empty when it is over.

    What called for a run that failed still does: triggers wait twice as long after each failure.
    """
    following = schedule.next(_now())
    told = [f"at {following:%Y-%m-%d %H:%M:%S %Z}"] if following else []
    told += ["when enough has changed"] if why else []
    console.print(f"next run: {', or '.join(told)}", highlight=False)
    pause = min(settings.train.trigger_seconds * 2.0**failures, LONGEST_PAUSE)
    while True:
        left = (following - _now()).total_seconds() if following else pause
        if ended.wait(max(min(left, pause), 0.0)):
            return ""
        if following and _now() >= following:
            return "scheduled training"
        if why and (reasons := why()):
            return f"triggered training: {', '.join(reasons)}"


def _reasons_for(settings: Settings, triggers: "Triggers") -> Callable[[], list[str]] | None:
    """Asks the log and the registry for what calls for a run now; `None` when nothing is to."""
    from recsys.interaction_log import open_interaction_log
    from training.metric_drop import MetricWatch
    from training.triggers import due, since

    if not triggers:
        return None
    registry, events = open_index_registry(settings.registry), open_interaction_log(settings.log)
    watch = None if triggers.drop is None else MetricWatch(settings.train, triggers.drop, triggers.shift_events)

    def reasons() -> list[str]:
        live = registry.alias(LIVE)
        if live is None:
            return ["there is no live version"]
        manifest = registry.manifest(live.version)
        seen = since(events, manifest, shares=triggers.shift is not None)
        found = due(triggers, seen)
        if watch is not None:
            found += watch.reasons(events, registry, manifest, seen.new_events, settings.registry.cache)
        return found

    def asked() -> list[str]:
        try:
            return reasons()
        except RecsysError as error:
            log.warning("cannot tell whether to train", error=str(error))
            return []

    return asked


def _now() -> datetime:
    return datetime.now().astimezone()
