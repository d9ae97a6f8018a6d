"""HTTP bodies of operators: dead letters, imports, the gate's checks and what differs between versions."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

LetterId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$", description="a dead letter")]
MAX_LETTERS = 1000


class LetterParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters: those of a status, of which reason and field have a part."""

    status: Annotated[str, msgspec.Meta(pattern="^(waiting|replayed|discarded|all)$")] = "waiting"
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    field: Annotated[str, msgspec.Meta(max_length=200)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LETTERS)] = 100


class LetterAnswer(msgspec.Struct, frozen=True):
    """A message that could not be applied; `changed_at`, `by` and `comment` are of its last replay or discard."""

    letter: str
    status: str
    reason: str
    field: str
    partition: str
    offset: int
    size: int
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    key: str | None = None
    changed_at: datetime | None = None
    by: str | None = None
    comment: str | None = None


class LettersAnswer(msgspec.Struct, frozen=True):
    """Dead letters, those seen last first."""

    letters: list[LetterAnswer]


class LetterContent(msgspec.Struct, frozen=True):
    """A dead letter and its message in Base64; without one, the message is erased."""

    letter: LetterAnswer
    headers: dict[str, bytes] = {}
    value: bytes | None = None


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters whose messages go onto the topic again; `person` acts through a shared key."""

    letters: Annotated[list[LetterId], msgspec.Meta(min_length=1, max_length=MAX_LETTERS)]
    person: Annotated[str, msgspec.Meta(max_length=200)] = ""


class DiscardBody(ReplayBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters whose messages are erased for good, and the reason, which is kept."""

    reason: Annotated[str, msgspec.Meta(min_length=3, max_length=500)]


class LetterCountAnswer(msgspec.Struct, frozen=True):
    """How many letters were replayed or discarded."""

    changed: int


class ImportAnswer(msgspec.Struct, frozen=True):
    """A finished import: every row is accepted, merged or rejected for a reason."""

    file: str
    finished_at: datetime
    rows: int
    accepted: int
    merged: int
    rejected: dict[str, int]
    first: datetime | None = None
    last: datetime | None = None
    rejected_rows: str | None = None


class ImportsAnswer(msgspec.Struct, frozen=True):
    """Imports of the machine that answers, the last first."""

    imports: list[ImportAnswer]


class CheckAnswer(msgspec.Struct, frozen=True):
    """One check of the gate: what was measured, which limit holds, and the setting of that limit."""

    name: str
    setting: str
    measured: str
    limit: str
    passed: bool


class ChecksAnswer(msgspec.Struct, frozen=True):
    """What the gate checked of a version."""

    version: str
    checks: list[CheckAnswer]


class VersionDifference(msgspec.Struct, frozen=True):
    """What changes from version `a` to version `b`, as `millirec versions diff --json` prints it.

    `overlap` is `None` where no user is in both versions, `norms` where no item is; all three for what is no
    recommender.
    """

    a: str
    b: str
    metrics: dict[str, tuple[float | None, float | None]]
    parameters: dict[str, tuple[Any, Any]]
    items: dict[str, Any] | None
    overlap: dict[str, Any] | None
    norms: dict[str, Any] | None
