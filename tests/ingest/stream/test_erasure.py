"""An erasure, all the way: features, log, files, receipt; and nothing that comes later brings anybody back."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.maintenance.rebuild import rebuild_features
from ingest.maintenance.tidy import tidy
from recsys.errors import LogUnavailable
from recsys.messages.interaction import Erasure, Interaction
from recsys.settings import RegistrySettings
from recsys.stores.event_log import InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.event_log.protocol import Purge
from recsys.stores.online import Stores, open_stores
from recsys.stores.receipts import ErasureReceipts, folder_of, open_erasure_receipts
from recsys.users import PositionedMessage
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

NOW = datetime.now(UTC)
ADA = "Ada-Lovelace"


def viewed(number: int, user: str) -> Interaction:
    at = NOW - timedelta(hours=5) + timedelta(minutes=number)
    return Interaction(event_id=f"{user}-{number}", user_id=user, item_id=f"i{number}", type="view", occurred_at=at)


@pytest.fixture
async def stores(ingest: Ingest) -> AsyncIterator[Stores]:
    opened = open_stores(ingest.store)
    yield opened
    await opened.aclose()


@pytest.fixture
def log(ingest: Ingest) -> InteractionLog:
    return open_interaction_log(ingest.log)


@pytest.fixture
def receipts(ingest: Ingest) -> ErasureReceipts:
    return open_erasure_receipts(ingest.registry)


async def test_an_erased_user_leaves_features_log_and_files_and_the_receipt_proves_it(
    ingest: Ingest,
    stores: Stores,
    log: InteractionLog,
    receipts: ErasureReceipts,
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    asked = datetime.now(UTC)
    messages = [viewed(number, user) for number in range(4) for user in (ADA, "bob")]
    await ingest.send([*messages, Erasure(event_id="please", user_id=ADA, occurred_at=asked), viewed(90, "bob")])
    async with ingest.consuming():
        await wait_until(lambda: log.read().collect().height == 5)
        await wait_until(lambda: knows(stores, "bob", 5))
        await wait_until(lambda: erased(stores, ADA))
    interactions = tmp_path / "log" / "interactions"
    assert holding(interactions, ADA)

    done = await tidy(log, stores.users, receipts, 3600)
    assert (done.rows, done.files, done.completed) == (4, 0, 0)
    assert (done.size_before.rows, done.size_after.rows) == (9, 5)
    receipt = receipts.of("please", ADA)
    assert receipt is not None
    assert receipt.requested_at == asked
    assert receipt.features_removed_at is not None
    assert receipt.rows == 4
    assert receipt.rows_deleted_at is not None
    assert receipt.files_deleted_at is None
    assert holding(interactions, ADA), "a version from before is still readable"

    assert (await tidy(log, stores.users, receipts, 0)).completed == 1
    assert holding(interactions, ADA) == []
    complete = receipts.of("please", ADA)
    assert complete is not None
    assert complete.files_deleted_at is not None
    assert receipts.of("please", "bob") is None
    assert (await tidy(log, stores.users, receipts, 0)).completed == 0
    assert list(receipts.all()) == [complete]
    assert holding(tmp_path / "registry", ADA) == []


async def test_neither_a_rebuild_nor_a_late_import_brings_an_erased_user_back(
    stores: Stores, log: InteractionLog, receipts: ErasureReceipts
) -> None:
    rows = [PositionedMessage("t-0", number, viewed(number, ADA)) for number in range(3)]
    log.append(interaction_rows(rows), {"t-0": 2})
    log.erase([PositionedMessage("t-0", 3, Erasure(event_id="please", user_id=ADA, occurred_at=NOW))])
    log.append(interaction_rows([]), {"t-0": 3})
    await tidy(log, stores.users, receipts, 0)
    late = [PositionedMessage("import:old-file", number, viewed(number + 50, ADA)) for number in range(3)]
    log.append(interaction_rows(late), {"import:old-file": 2})
    await rebuild_features(log, stores.users, stores.items)
    [ada] = await stores.users.load([ADA])
    assert ada.history == ()
    assert ada.offsets == {"t-0": 3}
    assert (await tidy(log, stores.users, receipts, 0)).rows == 3
    assert log.read().collect().is_empty()


class InterruptedLog(MemoryInteractionLog):
    """Purges once without coming back."""

    broken = False

    def purge(self, plan: Purge) -> int:
        done = super().purge(plan)
        if not self.broken:
            self.broken = True
            raise LogUnavailable("the power failed")
        return done


async def test_a_tidying_that_broke_off_is_finished_by_the_next_and_counts_the_same_rows(
    stores: Stores, receipts: ErasureReceipts
) -> None:
    log = InterruptedLog()
    log.append(
        interaction_rows([PositionedMessage("t-0", 0, viewed(0, ADA)), PositionedMessage("t-0", 1, viewed(1, ADA))]),
        {"t-0": 1},
    )
    log.erase([PositionedMessage("t-0", 2, Erasure(event_id="please", user_id=ADA, occurred_at=NOW))])
    log.append(interaction_rows([]), {"t-0": 2})
    with pytest.raises(LogUnavailable):
        await tidy(log, stores.users, receipts, 0)
    assert receipts.reached() == {folder_of("please"): {"requested", "found"}}
    await tidy(log, stores.users, receipts, 0)
    receipt = receipts.of("please", ADA)
    assert receipt is not None
    assert receipt.rows == 2
    assert receipt.rows_deleted_at is not None


async def test_an_erasure_that_features_have_yet_to_reach_is_not_said_to_be_gone_from_them(
    log: InteractionLog, receipts: ErasureReceipts, stores: Stores
) -> None:
    log.erase([PositionedMessage("t-0", 3, Erasure(event_id="please", user_id=ADA, occurred_at=NOW))])
    log.append(interaction_rows([]), {"t-0": 3})
    await tidy(log, stores.users, receipts, 3600)
    receipt = receipts.of("please", ADA)
    assert receipt is not None
    assert receipt.features_removed_at is None
    await rebuild_features(log, stores.users, stores.items)
    await tidy(log, stores.users, receipts, 3600)
    seen = receipts.of("please", ADA)
    assert seen is not None
    assert seen.features_removed_at is not None


def test_receipts_in_memory_last_as_long_as_their_process() -> None:
    receipts = open_erasure_receipts(RegistrySettings(backend="memory"))
    receipts.request("a/../b", "ada", NOW)
    found = receipts.of("a/../b", "ada")
    assert found is not None
    assert found.receipt == "a/../b"


def holding(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def knows(stores: Stores, user: str, interactions: int) -> bool:
    [features] = await stores.users.read([user])
    return len(features.history) == interactions


async def erased(stores: Stores, user: str) -> bool:
    [features] = await stores.users.load([user])
    return bool(features.identity_changes) and not features.history
