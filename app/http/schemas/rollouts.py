"""HTTP bodies of rollouts, as msgspec Structs like those of `app.http.schemas.events`."""

import math
from datetime import datetime
from typing import Annotated

import msgspec

from app.http.schemas.events import MoveBody
from recsys.experiments.canary import Finding, Verdict
from recsys.experiments.rollout import STEP_SECONDS, STEPS, Rollout, Share, Steps
from recsys.experiments.shadow import ShadowReport
from recsys.messages.interaction import InteractionType, to_the_end
from recsys.models.alias_move import Alias, AliasMove
from recsys.models.manifest import VERSION_PATTERN
from recsys.stores.model_registry.rollouts import SHADOW_SHARE

VersionId = Annotated[str, msgspec.Meta(pattern=to_the_end(VERSION_PATTERN))]
Hours = Annotated[float, msgspec.Meta(ge=0, le=8760, description="that a step takes at least")]
Types = Annotated[tuple[InteractionType, ...], msgspec.Meta(max_length=16)]


class PromoteBody(MoveBody, frozen=True, kw_only=True):
    """`alias`: `live`, or `placement:NAME` for the answers of that placement alone."""

    alias: Alias = "live"


class CanaryBody(MoveBody, frozen=True, kw_only=True):
    """`steps` are shares of the users; `converts` the types of interaction that count as success.

    Without them every interaction does that names the recommendation it came from.
    """

    version: VersionId
    steps: Steps = STEPS
    step_hours: Hours = STEP_SECONDS / 3600
    converts: Types = ()


class ShadowBody(MoveBody, frozen=True, kw_only=True):
    """`share` of the requests that the version answers too, as far as its budget goes."""

    version: VersionId
    share: Share = SHADOW_SHARE


class OutcomeAnswer(msgspec.Struct, frozen=True):
    """One guardrail: `harm` is what it would be breached by, `fewer` or `more`.

    Of the difference (canary less control) `low` and `high` hold together at all times; `null`: not known yet.
    """

    name: str
    harm: str
    control_users: int
    control_rate: float
    canary_users: int
    canary_rate: float
    difference: float
    low: float | None
    high: float | None
    breached: bool


class CanaryAnswer(msgspec.Struct, frozen=True):
    """`loaded`: on the replica that answers this. `verdict` says what it waits for or does next."""

    version: str
    control: str
    share: float
    steps: list[float]
    started_at: datetime
    step_since: datetime
    loaded: bool
    outcomes: list[OutcomeAnswer]
    verdict: str


class ShadowAnswer(ShadowReport, frozen=True, kw_only=True):
    """The report, over all replicas."""

    version: str
    share: float
    started_at: datetime
    loaded: bool


class RolloutsAnswer(msgspec.Struct, frozen=True):
    """The canary and the shadow; null where none runs."""

    canary: CanaryAnswer | None
    shadow: ShadowAnswer | None


def canary_answer(move: AliasMove, rollout: Rollout, verdict: Verdict, *, loaded: bool) -> CanaryAnswer:
    """The state of a canary after `move`, with each outcome of `verdict`; `loaded` on this replica."""
    return CanaryAnswer(
        version=move.version,
        control=rollout.control,
        share=rollout.share,
        steps=list(rollout.steps),
        started_at=rollout.started_at,
        step_since=move.moved_at,
        loaded=loaded,
        outcomes=[_outcome(finding) for finding in verdict.findings],
        verdict=verdict.reason,
    )


def _outcome(finding: Finding) -> OutcomeAnswer:
    low, high = (bound if math.isfinite(bound) else None for bound in (finding.difference.low, finding.difference.high))
    return OutcomeAnswer(
        name=finding.guardrail.outcome.value,
        harm="fewer" if finding.guardrail.fewer else "more",
        control_users=finding.control.n,
        control_rate=finding.control.mean,
        canary_users=finding.canary.n,
        canary_rate=finding.canary.mean,
        difference=finding.difference.estimate,
        low=low,
        high=high,
        breached=finding.is_breached,
    )
