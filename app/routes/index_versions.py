"""GET /versions and their history; promote, roll back, pin and unpin."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Path, Query, Request, Response

from app.http.dependencies import Administering, Services, Use, decode_body, json_response
from app.http.openapi import gives, takes
from app.http.schemas.events import MoveAnswer, MoveBody, MovesAnswer, VersionAnswer, VersionsAnswer
from app.http.schemas.operations import CheckAnswer, ChecksAnswer
from app.http.schemas.rollouts import PromoteBody
from recsys.errors import StoreUnavailable
from recsys.models.manifest import VERSION_PATTERN, AliasMove
from recsys.stores.model_registry.aliases import aliases_of, pin, previous, promote, rollback, unpin
from recsys.stores.notifications import VERSIONS_CHANNEL

router = APIRouter(prefix="/versions", tags=["index versions"])
log = structlog.get_logger()
VersionId = Annotated[str, Path(pattern=VERSION_PATTERN, description="an index version")]


@router.get("", responses=gives(VersionsAnswer, 503), response_class=Response)
async def list_versions(services: Use, _: Administering) -> Response:
    """Every complete version, oldest first, and which one this replica serves."""
    manifests = await services.watcher.ask(services.registry.versions)
    aliases = await services.watcher.ask(aliases_of, services.registry)
    current, fallback = services.live_index.current, services.live_index.fallback
    return json_response(
        VersionsAnswer(
            serving=current.index.version if current else None,
            loaded=[loaded.index.version for loaded in services.live_index.in_memory()],
            versions=[
                VersionAnswer(
                    version=manifest.version,
                    created_at=manifest.created_at,
                    algorithm=manifest.algorithm,
                    items=manifest.items,
                    users=manifest.users,
                    aliases=sorted(alias for alias, version in aliases.items() if version == manifest.version),
                    metrics=manifest.metrics,
                )
                for manifest in manifests
            ],
            fallback=None if fallback is None else f"{fallback}: {fallback.detail}",
        )
    )


@router.get("/{version}/checks", responses=gives(ChecksAnswer, 404, 422, 503), response_class=Response)
async def checks(services: Use, _: Administering, version: VersionId) -> Response:
    """List the gate's checks of a version, made before it was published."""
    manifest = await services.watcher.ask(services.registry.manifest, version)
    return json_response(
        ChecksAnswer(version, msgspec.convert(manifest.parameters.get("checks", []), list[CheckAnswer]))
    )


@router.get("/history", responses=gives(MovesAnswer, 422, 503), response_class=Response)
async def history(
    services: Use,
    _: Administering,
    limit: Annotated[int, Query(ge=1, le=10_000, description="the newest so many")] = 100,
) -> Response:
    """List the moves of the aliases, newest first: by whom, to which version, when and why."""
    moves = await services.watcher.ask(services.registry.history)
    newest = sorted(moves, key=lambda move: (move.moved_at, move.sequence), reverse=True)[:limit]
    return json_response(MovesAnswer([_answer(move) for move in newest]))


@router.post(
    "/rollback",
    responses=gives(MoveAnswer, 404, 409, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(MoveBody, example={"reason": "click rate fell"}),
)
async def roll_back(services: Use, actor: Administering, request: Request) -> Response:
    """Promote the version that was live before this one. Effective on this replica before the answer."""
    body = await decode_body(request, MoveBody)
    version = await services.watcher.ask(previous, services.registry)
    return await make_move(services, partial(rollback, services.registry, actor=actor, reason=body.reason), version)


@router.post(
    "/{version}/promote",
    responses=gives(MoveAnswer, 404, 409, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(PromoteBody, example={"reason": "better recall on the last weeks"}),
)
async def promote_version(services: Use, actor: Administering, version: VersionId, request: Request) -> Response:
    """Put a version in service everywhere, or for one placement, once it was opened here and every file is whole.

    Live is effective here before the answer.
    """
    body = await decode_body(request, PromoteBody)
    make = partial(promote, services.registry, version, actor=actor, reason=body.reason, alias=body.alias)
    return await make_move(services, make, version)


@router.post(
    "/{version}/pin",
    responses=gives(MoveAnswer, 404, 409, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(MoveBody, example={"reason": "the one of the audit"}),
)
async def pin_version(services: Use, actor: Administering, version: VersionId, request: Request) -> Response:
    """Keep a version from being deleted."""
    body = await decode_body(request, MoveBody)
    return json_response(
        _answer(await services.watcher.ask(partial(pin, services.registry, version, actor=actor, reason=body.reason)))
    )


@router.post(
    "/{version}/unpin",
    responses=gives(MoveAnswer, 404, 409, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(MoveBody, example={"reason": "audited"}),
)
async def unpin_version(services: Use, actor: Administering, version: VersionId, request: Request) -> Response:
    """Take the pin back."""
    body = await decode_body(request, MoveBody)
    return json_response(
        _answer(await services.watcher.ask(partial(unpin, services.registry, version, actor=actor, reason=body.reason)))
    )


async def make_move(services: Services, make: Callable[[], AliasMove], version: str | None = None) -> Response:
    """Move an alias, to `version` if given, and notify every replica; this one follows before it answers.

    Raises `CorruptArtefact`, with nothing moved, for a version that does not open.
    """
    if version is not None:
        await services.watcher.prove(version)
    move = await services.watcher.ask(make)
    try:
        await services.stores.notifications.send(VERSIONS_CHANNEL, move.version)
    except StoreUnavailable as error:
        log.warning("other replicas will notice by polling", error=str(error))
    await services.watcher.check()
    services.watcher.looked.set()
    return json_response(_answer(move))


def _answer(move: AliasMove) -> MoveAnswer:
    return msgspec.convert(move, MoveAnswer, from_attributes=True)
