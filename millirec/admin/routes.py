"""Routes of operators: /dead-letters, /imports and /versions/{a}/difference/{b}.

The service carries no table engine, so these are added to it only where `millirec[ingest]` is installed.
"""

from datetime import datetime
from importlib.util import find_spec
from typing import Annotated

from fastapi import Path

from app.http.callers import Administering
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
from app.http.services import Services
from app.http.typed_routes import Encoded, QueryString, TypedRouter
from app.routes.index_versions import Model, VersionId
from ingest.batch.report import FileReport
from millirec.admin.comparison import Comparisons
from millirec.admin.log_access import LogAccess
from millirec.settings import Settings
from recsys.models.manifest import RECOMMENDER
from recsys.stores.dead_letters.protocol import DeadLetter, LetterQuery, Status

Letter = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="a dead letter")]


def operator_routes(settings: Settings) -> list[TypedRouter]:
    """Return the routers of operators; none where the table engine is not installed."""
    if find_spec("deltalake") is None:
        return []
    access = LogAccess(settings)
    return [_letters(access), _imports(access), _comparisons(Comparisons())]


def _letters(access: LogAccess) -> TypedRouter:
    router = TypedRouter("/dead-letters", tag="dead letters")

    @router.answers("GET", "", 404)
    async def list_letters(_: Administering, params: Annotated[LetterParams, QueryString()]) -> LettersAnswer:
        """Messages that could not be applied, those seen last first."""
        access.require_log()
        status = None if params.status == "all" else Status(params.status)
        query = LetterQuery(status, params.reason.strip(), params.field, limit=params.limit)
        return LettersAnswer([_answer(letter) for letter in await access.letters(query)])

    @router.answers("POST", "/replay", 404, example={"letters": ["00c0ffee00c0ffee"]})
    async def replay_letters(actor: Administering, body: ReplayBody) -> LetterCountAnswer:
        """Send messages onto the topic again, unchanged; what is still wrong becomes a dead letter again."""
        access.require_log()
        letters = await access.named(body.letters)
        return LetterCountAnswer(await access.replay(letters, _signed(actor, body.person)))

    @router.answers("POST", "/discard", 404, example={"letters": ["00c0ffee00c0ffee"], "reason": "a test event"})
    async def discard_letters(actor: Administering, body: DiscardBody) -> LetterCountAnswer:
        """Erase messages for good; who did it and why stays."""
        access.require_log()
        letters = await access.named(body.letters)
        return LetterCountAnswer(await access.discard(letters, _signed(actor, body.person), body.reason))

    @router.answers("GET", "/{letter}/message", 404)
    async def get_letter(_: Administering, letter: Letter) -> LetterContent:
        """One dead letter with its message, as it came."""
        access.require_log()
        [dead_letter] = await access.named([letter])
        content = await access.content(dead_letter)
        if content is None:
            return LetterContent(_answer(dead_letter))
        return LetterContent(_answer(dead_letter, content.key), dict(content.headers), content.value)

    return router


def _imports(access: LogAccess) -> TypedRouter:
    router = TypedRouter(tag="imports")

    @router.answers("GET", "/imports")
    async def list_imports(_: Administering) -> ImportsAnswer:
        """Finished imports of this machine, the last first."""
        imports = await access.imports()
        return ImportsAnswer([_import(finished, report) for finished, report in imports])

    return router


def _comparisons(comparisons: Comparisons) -> TypedRouter:
    router = TypedRouter("/versions", tag="versions of models")

    @router.answers("GET", "/{version}/difference/{other_version}", 404)
    async def compare_versions(
        services: Services,
        _: Administering,
        version: VersionId,
        other_version: VersionId,
        model: Model = RECOMMENDER,
    ) -> Encoded[VersionDifference]:
        """Compare two versions; takes seconds, since both are read."""
        for name in (version, other_version):
            await services.watcher.ask(services.registry.of(model).manifest, name)
        return Encoded([await comparisons.compare(model, version, other_version)])

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
