"""GET /models, GET /versions and their history; promote, roll back, pin and unpin the versions of a model."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
import structlog
from fastapi import Path, Query

from app.http.callers import Administering
from app.http.schemas.events import (
    ModelAnswer,
    ModelsAnswer,
    MoveAnswer,
    MoveBody,
    MovesAnswer,
    VersionAnswer,
    VersionsAnswer,
)
from app.http.schemas.operations import CheckAnswer, ChecksAnswer
from app.http.schemas.rollouts import PromoteBody
from app.http.services import Services
from app.http.typed_routes import TypedRouter
from recsys.errors import NotFound, StoreUnavailable
from recsys.models.alias_move import LIVE, AliasMove
from recsys.models.kinds import summary_of
from recsys.models.manifest import MODEL_PATTERN, RECOMMENDER, VERSION_PATTERN, Manifest
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import aliases_of, pin, previous, promote, rollback, unpin
from recsys.stores.notifications import VERSIONS_CHANNEL

router = TypedRouter("/versions", tag="versions of models")
models_router = TypedRouter("/models", tag="versions of models")
log = structlog.get_logger()
VersionId = Annotated[str, Path(pattern=VERSION_PATTERN, description="a version of the model")]
Model = Annotated[str, Query(pattern=MODEL_PATTERN, description="the model that the version is of")]


@models_router.answers("GET", "")
async def list_models(services: Services, _: Administering) -> ModelsAnswer:
    """Every model that anything was published of, its kind and live version."""
    return ModelsAnswer(await services.watcher.ask(_models, services.registry))


def _models(registry: ModelRegistry) -> list[ModelAnswer]:
    answers = []
    for name in registry.models():
        versions, live = registry.of(name).versions(), registry.of(name).alias(LIVE)
        kind = versions[-1].kind if versions else None
        answers.append(ModelAnswer(name, kind, len(versions), None if live is None else live.version))
    return answers


@router.answers("GET", "", 404)
async def list_versions(services: Services, _: Administering, model: Model = RECOMMENDER) -> VersionsAnswer:
    """Every complete version of a model, oldest first, and which one this replica serves."""
    registry = services.registry.of(model)
    manifests = await services.watcher.ask(registry.versions)
    if not manifests and model != RECOMMENDER:
        raise NotFound("model", model)
    aliases = await services.watcher.ask(aliases_of, registry)
    serves = registry is services.registry
    current, fallback = services.live_index.current, services.live_index.fallback
    return VersionsAnswer(
        serving=current.index.version if current and serves else None,
        loaded=[loaded.index.version for loaded in services.live_index.in_memory() if serves],
        versions=[
            _version(manifest, sorted(alias for alias, version in aliases.items() if version == manifest.version))
            for manifest in manifests
        ],
        fallback=None if fallback is None or not serves else f"{fallback}: {fallback.detail}",
    )


@router.answers("GET", "/{version}/checks", 404)
async def get_checks(
    services: Services, _: Administering, version: VersionId, model: Model = RECOMMENDER
) -> ChecksAnswer:
    """List the gate's checks of a version, made before it was published."""
    verdict = (await services.watcher.ask(services.registry.of(model).manifest, version)).verdict
    answers = [] if verdict is None else msgspec.convert(verdict.checks, list[CheckAnswer])
    return ChecksAnswer(version, answers)


@router.answers("GET", "/history")
async def list_moves(
    services: Services,
    _: Administering,
    limit: Annotated[int, Query(ge=1, le=10_000, description="the newest so many")] = 100,
    model: Model = RECOMMENDER,
) -> MovesAnswer:
    """List the moves of the aliases, newest first: by whom, to which version, when and why."""
    moves = await services.watcher.ask(services.registry.of(model).history)
    newest = sorted(moves, key=lambda move: (move.moved_at, move.sequence), reverse=True)[:limit]
    return MovesAnswer([_answer(move) for move in newest])


@router.answers("POST", "/rollback", 404, 409, example={"reason": "click rate fell"})
async def roll_back(services: Services, actor: Administering, body: MoveBody, model: Model = RECOMMENDER) -> MoveAnswer:
    """Promote the version that was live before this one. Effective on this replica before the answer."""
    registry = services.registry.of(model)
    version = await services.watcher.ask(previous, registry)
    make = partial(rollback, registry, actor=actor, reason=body.reason)
    return await make_move(services, registry, make, version)


@router.answers("POST", "/{version}/promote", 404, 409, example={"reason": "better recall on the last weeks"})
async def promote_version(
    services: Services, actor: Administering, version: VersionId, body: PromoteBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Put a version in service everywhere, or for one placement, once it was opened here and every file is whole.

    Live is effective here before the answer.
    """
    registry = services.registry.of(model)
    make = partial(promote, registry, version, actor=actor, reason=body.reason, alias=body.alias)
    return await make_move(services, registry, make, version)


@router.answers("POST", "/{version}/pin", 404, 409, example={"reason": "the one of the audit"})
async def pin_version(
    services: Services, actor: Administering, version: VersionId, body: MoveBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Keep a version from being deleted."""
    make = partial(pin, services.registry.of(model), version, actor=actor, reason=body.reason)
    return _answer(await services.watcher.ask(make))


@router.answers("POST", "/{version}/unpin", 404, 409, example={"reason": "audited"})
async def unpin_version(
    services: Services, actor: Administering, version: VersionId, body: MoveBody, model: Model = RECOMMENDER
) -> MoveAnswer:
    """Take the pin back."""
    make = partial(unpin, services.registry.of(model), version, actor=actor, reason=body.reason)
    return _answer(await services.watcher.ask(make))


async def make_move(
    services: Services, registry: ModelRegistry, make: Callable[[], AliasMove], version: str | None = None
) -> MoveAnswer:
    """Move an alias in `registry`, to `version` if given, and notify every replica; this one follows before it answers.

    Raises `CorruptArtefact`, with nothing moved, for a version that does not open.
    """
    if version is not None:
        await services.watcher.prove(registry, version)
    move = await services.watcher.ask(make)
    try:
        await services.stores.notifications.send(VERSIONS_CHANNEL, move.version)
    except StoreUnavailable as error:
        log.warning("other replicas will notice by polling", error=str(error))
    await services.watcher.check()
    services.watcher.looked.set()
    return _answer(move)


def _version(manifest: Manifest, aliases: list[str]) -> VersionAnswer:
    return VersionAnswer(
        model=manifest.model,
        version=manifest.version,
        kind=manifest.kind,
        created_at=manifest.created_at,
        summary=summary_of(manifest),
        aliases=aliases,
        metrics=manifest.metrics,
        verdict=manifest.verdict,
        section=manifest.section,
    )


def _answer(move: AliasMove) -> MoveAnswer:
    return msgspec.convert(move, MoveAnswer, from_attributes=True)
