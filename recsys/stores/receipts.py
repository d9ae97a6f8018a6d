"""Receipts of erasures: what was done for each, and when; for the user who asks and for auditors.

`erasures/{receipt}/{stage}.json`, each written once and never changed. The receipt's id is the erasure's event id.
No stage says who the user was: `user` is a hash that can be checked by those who know the id. It is salted
with the receipt's id, so that it links no two receipts.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from recsys.clients.objects import Objects
from recsys.settings import RegistrySettings
from recsys.users import UserFeatures

FOLDER = "erasures"
STAGES = ("requested", "features", "found", "deleted", "vacuumed")


class Stage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage of an erasure, reached at `at`; `user` (hash) at the first, `rows` where they were counted."""

    at: datetime
    receipt: str
    user: str = ""
    rows: int | None = None


class ErasureReceipt(msgspec.Struct, frozen=True):
    """An erasure so far; what has not happened yet is null.

    `features_removed_at` is when it was seen that the feature store knows nothing from before the erasure;
    `rows` is how many rows of the interaction log it took, hidden from every reader from the beginning;
    `rows_deleted_at` when the newest version of the log was without them, `files_deleted_at` when every file was.
    """

    receipt: str
    requested_at: datetime
    features_removed_at: datetime | None = None
    rows: int | None = None
    rows_deleted_at: datetime | None = None
    files_deleted_at: datetime | None = None


class ErasureReceipts:
    """Writes and reads receipts. Methods block: call them from a thread. All raise `RegistryUnavailable`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def request(self, receipt: str, user_id: str, at: datetime) -> None:
        """Note that `user_id` is to be erased. Idempotent."""
        self._create(receipt, "requested", Stage(at, receipt, hashed(user_id, receipt)))

    def note(self, stage: str, receipt: str, at: datetime, rows: int | None = None) -> None:
        """Note that the erasure reached `stage`. Idempotent: the first note of a stage stays."""
        self._create(receipt, stage, Stage(at, receipt, rows=rows))

    def of(self, receipt: str, user_id: str) -> ErasureReceipt | None:
        """The receipt, or `None` where there is none or it is another user's."""
        stages = self._stages(receipt, STAGES)
        requested = stages.get("requested")
        if requested is None or requested.user != hashed(user_id, receipt):
            return None
        return _receipt(stages)

    def reached(self) -> dict[str, set[str]]:
        """The stages that each erasure has reached, by the folder of its receipt (`folder_of`); in one listing."""
        reached: dict[str, set[str]] = {}
        for entry in self._objects.entries(FOLDER):
            folder, _, name = entry["path"].removeprefix(f"{FOLDER}/").partition("/")
            reached.setdefault(folder, set()).add(name.removesuffix(".json"))
        return reached

    def all(self) -> Iterator[ErasureReceipt]:
        """Yield every receipt that can be read, in no particular order."""
        for folder, reached in self.reached().items():
            stages = self._stages(folder, [stage for stage in STAGES if stage in reached])
            if "requested" in stages:
                yield _receipt(stages)

    def noted(self, stage: str, receipt: str) -> Stage | None:
        """The note of `stage` for this receipt, `None` where there is none that can be read."""
        return self._stages(receipt, [stage]).get(stage)

    def _create(self, receipt: str, stage: str, reached: Stage) -> None:
        self._objects.create(_path(receipt, stage), msgspec.json.encode(reached))

    def _stages(self, receipt: str, stages: Sequence[str]) -> dict[str, Stage]:
        records = {stage: self._objects.read(_path(receipt, stage), Stage) for stage in stages}
        return {stage: record for stage, record in records.items() if record is not None}


def open_erasure_receipts(settings: RegistrySettings) -> ErasureReceipts:
    """The receipts in that registry; opened on first use."""
    return ErasureReceipts(Objects("memory:" if settings.backend == "memory" else settings.url))


def forgotten(features: UserFeatures, erased_at_ms: int) -> bool:
    """Whether the record holds nothing from before an erasure: it knows of it, or of one later."""
    return any(not change.into and change.at_ms >= erased_at_ms for change in features.identity_changes)


def hashed(user_id: str, receipt: str) -> str:
    """The hash of the user's id, salted with the receipt's id, as hex."""
    return hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, key=_key(receipt)).hexdigest()


def folder_of(receipt: str) -> str:
    """Event ids are any text; the name of an object is not. A folder's own name stands for itself."""
    return receipt if receipt.startswith("r-") and len(receipt) == 34 else f"r-{_key(receipt).hex()}"


def _key(receipt: str) -> bytes:
    return hashlib.blake2b(receipt.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _path(receipt: str, stage: str) -> str:
    return f"{FOLDER}/{folder_of(receipt)}/{stage}.json"


def _receipt(stages: Mapping[str, Stage]) -> ErasureReceipt:
    def at(stage: str) -> datetime | None:
        """When `stage` was reached, `None` where it was not."""
        return stages[stage].at if stage in stages else None

    rows_stage = stages.get("found")
    return ErasureReceipt(
        stages["requested"].receipt,
        stages["requested"].at,
        at("features"),
        None if rows_stage is None else rows_stage.rows,
        at("deleted"),
        at("vacuumed"),
    )
