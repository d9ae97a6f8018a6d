"""Decisions on letters, binary messages and remembered placements: whatever is written of them is read as it was."""

from datetime import UTC, datetime
from pathlib import Path
from time import time

import msgspec
import pytest

from app.versions.placement_watcher import RECORD, PlacementWatcher
from recsys.clients.objects import Objects
from recsys.errors import InvalidInput
from recsys.messages import avro, envelope, protobuf, wire
from recsys.messages.envelope import AVRO, CONTENT_TYPE, HEADERS, PROTOBUF
from recsys.messages.item import Item
from recsys.recommender.placement import Placement, PlacementChange
from recsys.recommender.trends import hour_of
from recsys.settings import LogSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal
from recsys.stores.online import Stores
from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog

HOUR = hour_of(1000 * time())
AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("backend", ["memory", "delta"])
def test_a_decision_on_a_letter_is_kept_whatever_its_words(tmp_path: Path, backend: str) -> None:
    letters = open_dead_letters(LogSettings.model_validate({"backend": backend, "path": str(tmp_path)}))
    letters.dead_letter([Refusal("r" * 9000, "f" * 9000, "p-0", 1, b"\xff", AT, key="\udcff", headers={"a": b"\xff"})])
    letters.discard(letters.letters(LetterQuery()), "o\udcffperator", "because \udcff" * 200, AT)
    (found,) = letters.letters(LetterQuery(status=None))
    assert (found.by, (found.why or "")[:9]) == ("o?perator", "because ?")


@pytest.mark.parametrize(("kind", "module"), [(AVRO, avro), (PROTOBUF, protobuf)])
def test_a_binary_message_is_measured_as_the_json_that_is_kept_of_it(kind: str, module: object) -> None:
    encode = avro.encode if module is avro else protobuf.encode
    headers = {**HEADERS, CONTENT_TYPE: kind.encode()}
    fits = Item(item_id="a", updated_at=AT, categories=["\x00" * 2000] * 5)
    assert envelope.decode(encode(fits), headers) == fits
    large = encode(msgspec.structs.replace(fits, categories=["\x00" * 2000] * 6))
    assert len(large) < wire.MAX_MESSAGE_BYTES
    with pytest.raises(InvalidInput, match=r"message: \d+ bytes are more than"):
        envelope.decode(large, headers)


async def test_placements_that_a_replica_remembers_do_not_go_with_one_of_them(tmp_path: Path, stores: Stores) -> None:
    change = PlacementChange(name="cart", sequence=1, changed_at=AT, actor="ada", placement=Placement(k=3))
    newer = {**msgspec.to_builtins(change), "placement": {"of": "another release"}}
    (tmp_path / RECORD).write_bytes(msgspec.json.encode({"home": newer, "cart": change}))
    nowhere = ObjectStoreSettingsLog(Objects(str(tmp_path / "file")))
    (tmp_path / "file").write_text("in the way of the registry's folder")
    watcher = PlacementWatcher(nowhere, tmp_path, stores.notifications, configured={}, poll_interval=1.0)
    await watcher.check()
    assert watcher.current["cart"] == Placement(k=3)
    assert watcher.current["home"] == watcher.base["home"]
