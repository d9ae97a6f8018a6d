"""The schedule of faults: kind, time and length, as a pure function of a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    KILL = "kill -9"
    STOP = "SIGSTOP"
    RESTART = "restart"
    STORM = "rebalance storm"
    CUT = "cut"
    REFUSE = "refused"
    SWALLOW = "black hole"
    DELAY = "delay"
    FULL_DISK = "disk full"
    FULL_SPOOL = "spool full"
    AHEAD = "clock ahead"


Targets = Mapping[str, Sequence[Kind]]
"""Kinds of faults for each target."""

FIRST, LAST = 0.05, 0.9
"""The share of the events between which faults begin: some come before all of them, and some after."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` befalls `target` once `after` events are acknowledged, and is mended `seconds` later."""

    after: int
    target: str
    kind: Kind
    seconds: float


def schedule(seed: int, events: int, targets: Targets, count: int, longest: float) -> tuple[Fault, ...]:
    """`count` faults, by `after`. Nothing comes again before everything else has come as often."""
    random = Random(seed)
    possible = [(target, kind) for target in sorted(targets) for kind in targets[target]]
    drawn: list[tuple[str, Kind]] = []
    while possible and len(drawn) < count:
        drawn += random.sample(possible, min(len(possible), count - len(drawn)))
    begins = sorted(round(random.uniform(FIRST, LAST) * events) for _ in drawn)
    random.shuffle(drawn)
    return tuple(
        Fault(after, target, kind, round(random.uniform(0.1, longest), 2))
        for after, (target, kind) in zip(begins, drawn, strict=True)
    )


def lanes(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    """Each target's own faults, one after the other; those of different targets overlap as they happen to."""
    return {target: [one for one in faults if one.target == target] for target in {one.target for one in faults}}
