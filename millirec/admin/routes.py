"""Routes of operators: /dead-letters, /imports and /versions/{a}/difference/{b}.

The service carries no table engine, so these are added to it only where `millirec[ingest]` is installed.
"""

from datetime import datetime
from importlib.util import find_spec
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.http.dependencies import Administering, Use, decode_body, json_response, query_parameters
from app.http.openapi import gives, reads, takes
from app.http.schemas.operations import (
    DiscardBody,
    ImportAnswer,
    ImportsAnswer,
    LetterAnswer,
    LetterContent,
    LetterCountAnswer,
    LetterParams,
    LettersAnswer,
    ReplayBody,
    VersionDifference,
)
from app.routes.index_versions import Model, VersionId
from ingest.batch.report import FileReport
from millirec.admin.comparison import Comparisons
from millirec.admin.log_access import LogAccess
from millirec.settings import Settings
from recsys.models.manifest import RECOMMENDER
from recsys.stores.dead_letters.protocol import DeadLetter, LetterQuery, Status

Letter = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="a dead letter")]


def operator_routes(settings: Settings) -> list[APIRouter]:
    """Return the routers of operators; none where the table engine is not installed."""
    if find_spec("deltalake") is None:
        return []
    access = LogAccess(settings)
    return [_letters(access), _imports(access), _comparisons(Comparisons())]


def _letters(access: LogAccess) -> APIRouter:
    router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

    @router.get(
        "", responses=gives(LettersAnswer, 404, 422, 503), response_class=Response, openapi_extra=reads(LetterParams)
    )
    async def list_letters(request: Request, _: Administering) -> Response:
        """Messages that could not be applied, those seen last first."""
        access.require_log()
        params = query_parameters(request.scope, LetterParams)
        status = None if params.status == "all" else Status(params.status)
        query = LetterQuery(status, params.reason.strip(), params.field, limit=params.limit)
        return json_response(LettersAnswer([_answer(letter) for letter in await access.letters(query)]))

    @router.post(
        "/replay",
        responses=gives(LetterCountAnswer, 404, 413, 422, 503),
        response_class=Response,
        openapi_extra=takes(ReplayBody, example={"letters": ["00c0ffee00c0ffee"]}),
    )
    async def replay_letters(actor: Administering, request: Request) -> Response:
        """Send messages onto the topic again, unchanged; what is still wrong becomes a dead letter again."""
        body = await decode_body(request, ReplayBody)
        access.require_log()
        letters = await access.named(body.letters)
        return json_response(LetterCountAnswer(await access.replay(letters, _signed(actor, body.person))))

    @router.post(
        "/discard",
        responses=gives(LetterCountAnswer, 404, 413, 422, 503),
        response_class=Response,
        openapi_extra=takes(DiscardBody, example={"letters": ["00c0ffee00c0ffee"], "reason": "a test event"}),
    )
    async def discard_letters(actor: Administering, request: Request) -> Response:
        """Erase messages for good; who did it and why stays."""
        body = await decode_body(request, DiscardBody)
        access.require_log()
        letters = await access.named(body.letters)
        return json_response(LetterCountAnswer(await access.discard(letters, _signed(actor, body.person), body.reason)))

    @router.get("/{letter}/message", responses=gives(LetterContent, 404, 422, 503), response_class=Response)
    async def get_letter(_: Administering, letter: Letter) -> Response:
        """One dead letter with its message, as it came."""
        access.require_log()
        [dead_letter] = await access.named([letter])
        content = await access.content(dead_letter)
        if content is None:
            return json_response(LetterContent(_answer(dead_letter)))
        return json_response(LetterContent(_answer(dead_letter, content.key), dict(content.headers), content.value))

    return router


def _imports(access: LogAccess) -> APIRouter:
    router = APIRouter(tags=["imports"])

    @router.get("/imports", responses=gives(ImportsAnswer, 503), response_class=Response)
    async def list_imports(_: Administering) -> Response:
        """Finished imports of this machine, the last first."""
        imports = await access.imports()
        return json_response(ImportsAnswer([_import(finished, report) for finished, report in imports]))

    return router


def _comparisons(comparisons: Comparisons) -> APIRouter:
    router = APIRouter(prefix="/versions", tags=["versions of models"])

    @router.get(
        "/{version}/difference/{other_version}",
        responses=gives(VersionDifference, 404, 422, 503),
        response_class=Response,
    )
    async def difference(
        services: Use,
        _: Administering,
        version: VersionId,
        other_version: VersionId,
        model: Model = RECOMMENDER,
    ) -> Response:
        """Compare two versions; takes seconds, since both are read."""
        for name in (version, other_version):
            await services.watcher.ask(services.registry.of(model).manifest, name)
        return Response(await comparisons.compare(model, version, other_version), media_type="application/json")

    return router


def _signed(actor: str, person: str) -> str:
    """Return who acts: the key's name, and the person where several share the key."""
    return f"{actor} (for {person})" if person and person != actor else actor


def _answer(letter: DeadLetter, key: str | None = None) -> LetterAnswer:
    return LetterAnswer(
        letter=letter.letter,
        status=letter.status.value,
        reason=letter.reason,
        field=letter.field,
        partition=letter.partition,
        offset=letter.offset,
        size=letter.size,
        first_seen=letter.first_seen,
        last_seen=letter.last_seen,
        times_seen=letter.times_seen,
        key=key,
        changed_at=letter.changed_at,
        by=letter.by,
        comment=letter.why,
    )


def _import(finished: datetime, report: FileReport) -> ImportAnswer:
    counts = report.counts
    return ImportAnswer(
        file=report.file,
        finished_at=finished,
        rows=counts.rows,
        accepted=counts.accepted,
        merged=counts.merged,
        rejected=counts.rejected,
        first=counts.first,
        last=counts.last,
        rejected_rows=report.rejected_rows,
    )
