"""The contract of notifications, on every backend."""

import asyncio

from recsys.stores.online import Stores
from tests.contracts.items.updates import item
from tests.environment.waiting import WaitUntil


async def test_a_notification_wakes_every_listener_of_its_channel(stores: Stores, wait_until: WaitUntil) -> None:
    assert await stores.notifications.wait("versions", 0.01) is None
    assert await stores.notifications.wait("items", 0.01) is None
    waiting = asyncio.create_task(stores.notifications.wait("versions", 10))
    await asyncio.sleep(0)
    await stores.notifications.send("versions", "v7")
    assert await waiting == "v7"
    assert await stores.notifications.wait("items", 0.01) is None


async def test_a_notification_between_two_waits_is_kept(stores: Stores) -> None:
    await stores.notifications.wait("items", 0.01)
    await stores.items.put([item("a")])
    assert await stores.notifications.wait("items", 10) is not None
    assert await stores.notifications.wait("items", 0.01) is None


async def test_many_notifications_are_few_wakes(stores: Stores) -> None:
    await stores.notifications.wait("items", 0.01)
    for n in range(50):
        await stores.notifications.send("items", str(n))
    wakes: list[str] = []
    while (payload := await stores.notifications.wait("items", 0.2)) is not None:
        wakes.append(payload)
    assert wakes[-1] == "49"
    assert len(wakes) <= 5
