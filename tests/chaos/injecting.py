"""How each fault is brought about and mended, and how long it took until all went its way again."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import psutil
from deltalake.exceptions import DeltaError
from redis.exceptions import RedisError

from recsys.errors import StoreUnavailable
from recsys.stores.topic.sharing import partition_of
from tests.chaos.disk import empty, fill
from tests.chaos.schedule import Fault, Kind, lanes
from tests.chaos.settled import remembered, written
from tests.chaos.traffic import Probe, Traffic
from tests.chaos.world import GROUPS, World
from tests.environment.waiting import wait_until_sync

RECOVERY = 120.0
"""Seconds within which an event must have all its effects once its fault is mended."""
LOOK_EVERY = 0.1
STORM = 2
DELAY = 0.2
AHEAD = 600_000
"""Milliseconds that entries of a stream are ahead of the clock."""
SETTLED = 2.0
"""Seconds after which what noida-db has acknowledged is on the disk."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that was, and the seconds from its end until an event sent then was acknowledged, in its user's record
    and in the log."""

    fault: Fault
    acknowledged: float
    remembered: float
    logged: float


class Chaos:
    """Runs a schedule against a world, each target in a thread of its own."""

    def __init__(self, world: World, traffic: Traffic) -> None:
        self._world = world
        self._traffic = traffic
        self._over = threading.Event()

    def run(self, faults: Sequence[Fault], events: int, patience: float) -> list[Injection]:
        """Until all faults are mended and `events` are acknowledged. Raises whatever went wrong first."""
        separate = lanes(faults)
        with ThreadPoolExecutor(len(separate) + 1) as pool:
            try:
                running = [pool.submit(self._lane, lane, patience) for lane in separate.values()]
                done = [injected for lane in running for injected in lane.result()]
                self._reach(events, patience)
            finally:
                self._over.set()
        return done

    def _reach(self, events: int, patience: float) -> None:
        def reached() -> bool:
            self._traffic.check()
            return self._over.is_set() or self._traffic.acknowledged >= events

        wait_until_sync(reached, patience)

    def _lane(self, faults: Sequence[Fault], patience: float) -> list[Injection]:
        done = []
        probe = self._traffic.probe(f"probe-{faults[0].target}")
        for fault in faults:
            self._reach(fault.after, patience)
            if self._over.is_set():
                break
            self._bring_about(fault, probe)
            done.append(self._recovered(fault, probe))
        return done

    def _recovered(self, fault: Fault, probe: Probe) -> Injection:
        mended = time.monotonic()
        event_id = probe.sell()
        acknowledged = time.monotonic() - mended
        self._until(lambda: asyncio.run(remembered(self._world, probe.user, event_id)))
        in_record = time.monotonic() - mended
        self._until(lambda: event_id in written(self._world, probe.user))
        return Injection(fault, acknowledged, in_record, time.monotonic() - mended)

    def _until(self, condition: Callable[[], bool]) -> None:
        """As `wait_until_sync`, for what costs too much to be asked all the time and may fail while others break it."""
        deadline = time.monotonic() + RECOVERY
        while True:
            with suppress(StoreUnavailable, DeltaError):
                if condition():
                    return
            assert time.monotonic() < deadline, f"an event had no effect within {RECOVERY} s"
            self._over.wait(LOOK_EVERY)

    def _bring_about(self, fault: Fault, probe: Probe) -> None:
        if fault.target in self._world.links:
            self._on_link(fault)
        elif fault.target in GROUPS:
            self._on_member(fault)
        elif fault.kind is Kind.AHEAD:
            self._on_clock(fault, probe)
        else:
            {"spool": self._on_spool, "serve": self._on_service, "store": self._on_store, "broker": self._on_broker}[
                fault.target
            ](fault)

    def _on_link(self, fault: Fault) -> None:
        link = self._world.links[fault.target]
        ways: dict[Kind, Callable[[], None]] = {
            Kind.CUT: link.cuts,
            Kind.REFUSE: link.refuses,
            Kind.SWALLOW: link.swallows,
            Kind.DELAY: lambda: link.delays(DELAY),
        }
        ways[fault.kind]()
        self._over.wait(fault.seconds)
        link.passes()

    def _on_member(self, fault: Fault) -> None:
        world, group = self._world, fault.target
        name = world.member(group)
        if fault.kind is Kind.STORM:
            guests = [world.join(group) for _ in range(STORM)]
            for guest in guests:
                wait_until_sync(lambda guest=guest: world.consumes(group, guest), 60.0)  # type: ignore[misc]
            self._over.wait(fault.seconds)
            for guest in guests:
                world.leave(group, guest)
        elif fault.kind is Kind.STOP:
            self._freeze(world.roles[group].processes[name].pid, fault.seconds)
        else:
            if fault.kind is Kind.KILL:
                world.roles[group].kill(name)
            else:
                world.leave(group, name)
            self._over.wait(fault.seconds)
            world.join(group)

    def _on_service(self, fault: Fault) -> None:
        service = self._world.roles["serve"]
        if fault.kind is Kind.STOP:
            self._freeze(self._world.worker().pid, fault.seconds)
            return
        if fault.kind is Kind.KILL:
            service.kill("serve")
        else:
            self._world.leave("serve", "serve")
        self._over.wait(fault.seconds)
        service.serve("--workers", "2")

    def _on_store(self, fault: Fault) -> None:
        store = self._world.store
        if fault.kind is Kind.STOP:
            store.signal(signal.SIGSTOP)
            self._over.wait(fault.seconds)
            store.signal(signal.SIGCONT)
        else:
            store.kill()
            self._over.wait(fault.seconds)
            store.start()

    def _on_spool(self, fault: Fault) -> None:
        """While the topic is away: in peace nothing is spooled."""
        way, disk = self._world.way_to_topic, self._world.disk
        assert way is not None
        if fault.kind is Kind.FULL_DISK:
            fill(disk)
        refused = self._world.spool_refused()
        way.refuses()
        deadline = time.monotonic() + RECOVERY
        # What refuses the service's way may be mended, and the service restarted, by others meanwhile.
        while self._world.spool_refused() <= refused and time.monotonic() < deadline and not self._over.is_set():
            way.refuses()
            self._over.wait(LOOK_EVERY)
        self._over.wait(fault.seconds)
        way.passes()
        empty(disk)

    def _on_clock(self, fault: Fault, probe: Probe) -> None:
        """A producer of its own adds an entry whose id is ahead: all that come later are at least as far ahead."""
        key, topic = probe.user, self._world.topic
        stream = f"{self._world.settings.prefix}{topic.name}:{partition_of(key, topic.partitions)}"
        event_id, content = probe.event()
        deadline = time.monotonic() + RECOVERY
        while True:
            try:
                with self._world.store.client as client:
                    last = int(client.xinfo_stream(stream)["last-generated-id"].split(b"-")[0])
                    ahead = max(last, time.time_ns() // 1_000_000) + AHEAD
                    client.xadd(stream, {"key": key, "header:schema-version": "2", "value": content}, id=f"{ahead}-0")
                break
            except RedisError:
                assert time.monotonic() < deadline, f"nothing was added within {RECOVERY} s"
                self._over.wait(LOOK_EVERY)
        probe.till.acknowledged.add(event_id)
        self._over.wait(fault.seconds)

    def _on_broker(self, fault: Fault) -> None:
        """In silence: noida-db loses what it acknowledges on its way out, even on SIGTERM."""
        assert self._world.broker is not None
        with self._traffic.hushed():
            wait_until_sync(self._world.spool_is_empty, RECOVERY)
            self._over.wait(SETTLED)
            self._world.broker.stop()
        self._over.wait(fault.seconds)
        self._world.broker.start()

    def _freeze(self, pid: int, seconds: float) -> None:
        """Ignore a process that its supervisor killed meanwhile."""
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            os.kill(pid, signal.SIGSTOP)
            self._over.wait(seconds)
            os.kill(pid, signal.SIGCONT)
