"""GET /rollouts, POST /rollouts/canary, /rollouts/canary/advance, /rollouts/canary/stop, and the same of a shadow."""

from functools import partial

import msgspec

from app.http.callers import Administering
from app.http.schemas.events import MoveAnswer, MoveBody
from app.http.schemas.rollouts import CanaryBody, RolloutsAnswer, ShadowAnswer, ShadowBody, canary_answer
from app.http.services import Services
from app.http.typed_routes import TypedRouter
from app.routes.index_versions import Model, make_move
from app.versions.canary_guard import judged
from recsys.experiments.shadow import report
from recsys.models.alias_move import CANARY, SHADOW, AliasMove
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry import ModelRegistry, rollouts

router = TypedRouter("/rollouts", tag="rollouts")
REASON = {"reason": "enough seen"}
START = {"version": "20111209-125000-4c1d2e", "reason": "passed the gate"}


@router.answers("GET", "")
async def get_rollouts(services: Services, _: Administering, model: Model = RECOMMENDER) -> RolloutsAnswer:
    """The canary with its guardrails as they stand, and the report of the shadow."""
    moves = await services.watcher.ask(services.registry.of(model).aliases)
    canary, shadow = moves.get(CANARY), moves.get(SHADOW)
    answer = RolloutsAnswer(None, None)
    if canary is not None and canary.rollout is not None:
        verdict = await judged(services.stores.outcomes, canary, canary.rollout)
        shown = canary_answer(canary, canary.rollout, verdict, loaded=_is_loaded(services, canary))
        answer = msgspec.structs.replace(answer, canary=shown)
    if shadow is not None and shadow.rollout is not None:
        counts = await services.stores.counters.read(shadow.rollout.experiment)
        report_fields = msgspec.structs.asdict(report(counts))
        rollout = shadow.rollout
        shadow_answer = ShadowAnswer(
            **report_fields,
            version=shadow.version,
            share=rollout.share,
            started_at=rollout.started_at,
            loaded=_is_loaded(services, shadow),
        )
        answer = msgspec.structs.replace(answer, shadow=shadow_answer)
    return answer


@router.answers("POST", "/canary", 404, 409, example=START)
async def start_canary(
    services: Services, actor: Administering, body: CanaryBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Have a version answer a small share of the users, and ever more of them while no guardrail is breached."""
    registry = services.registry.of(model)
    return await make_move(
        services,
        registry,
        partial(
            rollouts.start_canary,
            registry,
            body.version,
            actor=actor,
            reason=body.reason,
            steps=body.steps,
            step_seconds=3600 * body.step_hours,
            converts=body.converts,
        ),
        body.version,
    )


@router.answers("POST", "/canary/advance", 404, 409, example=REASON)
async def advance_canary(
    services: Services, actor: Administering, body: MoveBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Go on to the next step without waiting; after the last one the version is promoted."""
    registry = services.registry.of(model)
    running = await services.watcher.ask(registry.alias, CANARY)
    make = partial(rollouts.advance_canary, registry, actor=actor, reason=body.reason)
    return await make_move(services, registry, make, None if running is None else running.version)


@router.answers("POST", "/canary/stop", 404, 409, example=REASON)
async def stop_canary(
    services: Services, actor: Administering, body: MoveBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Stop the canary: the live version answers all users again."""
    return await _stop_rollout(services, services.registry.of(model), CANARY, actor, body)


@router.answers("POST", "/shadow", 404, 409, example=START)
async def start_shadow(
    services: Services, actor: Administering, body: ShadowBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Have a version answer a share of the requests too; its answers only go into the report."""
    registry = services.registry.of(model)
    make = partial(rollouts.start_shadow, registry, body.version, actor=actor, reason=body.reason, share=body.share)
    return await make_move(services, registry, make, body.version)


@router.answers("POST", "/shadow/stop", 404, 409, example=REASON)
async def stop_shadow(
    services: Services, actor: Administering, body: MoveBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Stop the shadow: the version answers no more requests."""
    return await _stop_rollout(services, services.registry.of(model), SHADOW, actor, body)


async def _stop_rollout(
    services: Services, registry: ModelRegistry, alias: str, actor: str, body: MoveBody
) -> MoveAnswer:
    return await make_move(services, registry, partial(rollouts.stop, registry, alias, actor=actor, reason=body.reason))


def _is_loaded(services: Services, move: AliasMove) -> bool:
    return move.version in services.live_index.alternates
