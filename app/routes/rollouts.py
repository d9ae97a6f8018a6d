"""GET /rollouts, POST /rollouts/canary, /rollouts/canary/advance, /rollouts/canary/stop, and the same of a shadow."""

from functools import partial

import msgspec
from fastapi import APIRouter, Request, Response

from app.http.dependencies import Administering, Services, Use, decode_body, json_response
from app.http.openapi import gives, takes
from app.http.schemas.events import MoveAnswer, MoveBody
from app.http.schemas.rollouts import CanaryBody, RolloutsAnswer, ShadowAnswer, ShadowBody, canary_answer
from app.routes.index_versions import Model, make_move
from app.versions.canary_guard import judged
from recsys.experiments.shadow import report
from recsys.models.alias_move import CANARY, SHADOW, AliasMove
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.rollouts import advance_canary, start_canary, start_shadow, stop

router = APIRouter(prefix="/rollouts", tags=["rollouts"])
MOVES = gives(MoveAnswer, 404, 409, 413, 422, 503)
REASON_BODY = takes(MoveBody, example={"reason": "enough seen"})


@router.get("", responses=gives(RolloutsAnswer, 503), response_class=Response)
async def rollouts(services: Use, _: Administering, model: Model = RECOMMENDER) -> Response:
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
    return json_response(answer)


@router.post(
    "/canary",
    responses=MOVES,
    response_class=Response,
    openapi_extra=takes(CanaryBody, example={"version": "20111209-125000-4c1d2e", "reason": "passed the gate"}),
)
async def begin_canary(services: Use, actor: Administering, request: Request, model: Model = RECOMMENDER) -> Response:
    """Have a version answer a small share of the users, and ever more of them while no guardrail is breached."""
    body, registry = await decode_body(request, CanaryBody), services.registry.of(model)
    return await make_move(
        services,
        registry,
        partial(
            start_canary,
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


@router.post("/canary/advance", responses=MOVES, response_class=Response, openapi_extra=REASON_BODY)
async def further_canary(services: Use, actor: Administering, request: Request, model: Model = RECOMMENDER) -> Response:
    """Go on to the next step without waiting; after the last one the version is promoted."""
    body, registry = await decode_body(request, MoveBody), services.registry.of(model)
    running = await services.watcher.ask(registry.alias, CANARY)
    make = partial(advance_canary, registry, actor=actor, reason=body.reason)
    return await make_move(services, registry, make, None if running is None else running.version)


@router.post("/canary/stop", responses=MOVES, response_class=Response, openapi_extra=REASON_BODY)
async def end_canary(services: Use, actor: Administering, request: Request, model: Model = RECOMMENDER) -> Response:
    """Stop the canary: the live version answers all users again."""
    return await _stop_rollout(services, services.registry.of(model), CANARY, actor, request)


@router.post(
    "/shadow",
    responses=MOVES,
    response_class=Response,
    openapi_extra=takes(ShadowBody, example={"version": "20111209-125000-4c1d2e", "reason": "how different is it?"}),
)
async def begin_shadow(services: Use, actor: Administering, request: Request, model: Model = RECOMMENDER) -> Response:
    """Have a version answer a share of the requests too; its answers only go into the report."""
    body, registry = await decode_body(request, ShadowBody), services.registry.of(model)
    make = partial(start_shadow, registry, body.version, actor=actor, reason=body.reason, share=body.share)
    return await make_move(services, registry, make, body.version)


@router.post("/shadow/stop", responses=MOVES, response_class=Response, openapi_extra=REASON_BODY)
async def end_shadow(services: Use, actor: Administering, request: Request, model: Model = RECOMMENDER) -> Response:
    """Stop the shadow: the version answers no more requests."""
    return await _stop_rollout(services, services.registry.of(model), SHADOW, actor, request)


async def _stop_rollout(
    services: Services, registry: ModelRegistry, alias: str, actor: str, request: Request
) -> Response:
    body = await decode_body(request, MoveBody)
    return await make_move(services, registry, partial(stop, registry, alias, actor=actor, reason=body.reason))


def _is_loaded(services: Services, move: AliasMove) -> bool:
    return move.version in services.live_index.alternates
