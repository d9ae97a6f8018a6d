"""Checkup: what `millirec doctor` looks at, one module per part of a deployment; every finding says what to do."""

import asyncio

import msgspec

from millirec.checkup import connections, processes, registry, supervised, watermarks
from millirec.checkup.finding import Check, Finding, State
from millirec.settings import Settings
from recsys.observability.text import masked

__all__ = ["Finding", "State", "examine"]


async def examine(settings: Settings, *, deep: bool = False) -> list[Finding]:
    """Run every check and return the findings in the order of the checks, secrets masked.

    All run at the same time: a system that is down costs its time-out once.
    """
    checks: list[Check] = [
        connections.feature_store,
        connections.interaction_topic,
        connections.interaction_log,
        watermarks.watermarks,
        registry.deep_registry if deep else registry.model_registry,
        processes.processes,
        supervised.supervised,
        connections.spool,
        connections.disks,
        connections.open_files,
        connections.keys,
    ]
    results = await asyncio.gather(*(check(settings) for check in checks))
    return [
        msgspec.structs.replace(finding, found=masked(finding.found), todo=masked(finding.todo))
        for findings in results
        for finding in findings
    ]
