"""All of millirec as real processes, with a proxy on every way between them and what they share."""

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import httpx
import psutil
from pydantic import SecretStr

from recsys.settings import KafkaSettings, StoreSettings, TopicBackend, TopicSettings
from tests.chaos.broker import Broker
from tests.chaos.disk import small_disk
from tests.chaos.schedule import Kind, Targets
from tests.environment.deployment import Deployment
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import Store, opened_store
from tests.faults.tcp_proxy import TcpProxy, proxying

GROUPS = ("features", "log")
LINK = (Kind.CUT, Kind.REFUSE, Kind.SWALLOW, Kind.DELAY)
MEMBER = (Kind.KILL, Kind.STOP, Kind.RESTART, Kind.STORM)
SPOOL_LIMIT = 262_144
"""Bytes: full within seconds while the topic is away."""
LEAVING = 40.0
"""Seconds a process may take to end in peace."""


@dataclass
class World:
    """`roles` are the service and the groups, each with its own way to the store; `links` are these ways."""

    folder: Path
    store: Store
    settings: StoreSettings
    topic: TopicSettings
    roles: dict[str, Deployment]
    links: dict[str, TcpProxy]
    broker: Broker | None = None
    mounted: bool = False
    joined: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.roles["serve"].url

    @property
    def disk(self) -> Path:
        """Where the spool is; what else is put there is no part of it."""
        return self.folder / "disk"

    @property
    def way_to_topic(self) -> TcpProxy | None:
        """The service's; `None` where no proxy stands before the topic."""
        return self.links["serve-store"] if self.broker is None else self.links.get("clients-broker")

    @property
    def targets(self) -> Targets:
        """Kinds of faults that this world is built for."""
        targets: dict[str, Sequence[Kind]] = dict.fromkeys(self.links, LINK)
        targets |= {"serve": (Kind.KILL, Kind.RESTART, Kind.STOP), "store": (Kind.KILL, Kind.STOP)}
        if self.broker is None or self.broker.evicts:
            targets |= dict.fromkeys(GROUPS, MEMBER)
        if self.way_to_topic is not None:
            targets["spool"] = (Kind.FULL_SPOOL, *([Kind.FULL_DISK] if self.mounted else []))
        if self.broker is None:
            targets["clock"] = (Kind.AHEAD,)
        if self.broker is not None and self.broker.keeps:
            targets["broker"] = (Kind.RESTART,)
        return targets

    def start(self, members: int) -> None:
        for group in GROUPS:
            for _ in range(members):
                self.join(group)
        self.roles["serve"].serve("--workers", "2")

    def join(self, group: str) -> str:
        """Another member; its name."""
        self.joined[group] = self.joined.get(group, 0) + 1
        name = f"{group}-{self.joined[group]}"
        self.roles[group].start(name, "consume", group)
        return name

    def member(self, group: str) -> str:
        """The oldest."""
        return next(iter(self.roles[group].processes))

    def leave(self, group: str, name: str) -> None:
        process = self.roles[group].processes.pop(name)
        process.terminate()
        assert process.wait(LEAVING) in {0, -signal.SIGTERM}, self.roles[group].output(name)

    def consumes(self, group: str, name: str) -> bool:
        """Return whether it has come so far as to join."""
        assert self.roles[group].processes[name].poll() is None, self.roles[group].output(name)
        return "consuming" in self.roles[group].output(name)

    def worker(self) -> psutil.Process:
        """One of the processes that answer requests."""
        family = psutil.Process(self.roles["serve"].processes["serve"].pid).children()
        return next(one for one in family if "spawn_main" in " ".join(one.cmdline()))

    def end_consumers(self) -> None:
        for group in GROUPS:
            for name in list(self.roles[group].processes):
                self.leave(group, name)

    def spool_is_empty(self) -> bool:
        return list((self.disk / "spool").glob("*")) == []

    def spool_refused(self) -> float:
        """Messages, over all workers; 0 while nobody answers."""
        try:
            told = httpx.get(f"{self.url}/metrics", timeout=5.0).text
        except httpx.TransportError:
            return 0.0
        lines = (line for line in told.splitlines() if line.startswith("millirec_spool_refused_total"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def opened_world(backend: str, folder: Path, members: int) -> Iterator[World]:
    """`streams`, or a broker's name; everything runs, and ends with the block."""
    with ExitStack() as stack:
        mounted = stack.enter_context(small_disk(folder / "disk"))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millirec-")))
        store = stack.enter_context(opened_store(place))
        prefix = f"chaos-{token_hex(6)}:"
        links = {f"{role}-store": stack.enter_context(proxying(str(store.socket))) for role in ("serve", *GROUPS)}
        broker = None if backend == "streams" else stack.enter_context(Broker.opened(backend, place))
        if broker is not None and broker.proxy is not None:
            links["clients-broker"] = broker.proxy
        topic = _topic(broker)
        extra = {
            "MILLIREC_TOPIC__BACKEND": topic.backend.value,
            "MILLIREC_TOPIC__NAME": topic.name,
            "MILLIREC_TOPIC__PARTITIONS": str(topic.partitions),
            "MILLIREC_TOPIC__SEND_TIMEOUT": str(topic.send_timeout),
            "MILLIREC_TOPIC__KAFKA__BOOTSTRAP": topic.kafka.bootstrap,
            "MILLIREC_TOPIC__KAFKA__IDEMPOTENT": str(topic.kafka.idempotent),
            "MILLIREC_TOPIC__KAFKA__SESSION_TIMEOUT": str(topic.kafka.session_timeout),
            "MILLIREC_STORE__TIMEOUT": "1.0",
            "MILLIREC_SERVE__SPOOL": str(folder / "disk" / "spool"),
            "MILLIREC_SERVE__SPOOL_LIMIT": str(SPOOL_LIMIT),
            "MILLIREC_SERVE__POLL_INTERVAL": "0.5",
            "MILLIREC_INGEST__LOG_WAIT": "0.5",
        }
        roles = {}
        for role in ("serve", *GROUPS):
            url = SecretStr(f"redis://127.0.0.1:{links[f'{role}-store'].port}")
            roles[role] = Deployment.on(StoreSettings(url=url, prefix=prefix), folder, extra)
            stack.callback(roles[role].stop)
        with_versions(roles["serve"])
        settings = StoreSettings(url=SecretStr(f"unix://{store.socket}"), prefix=prefix, timeout=20.0, read_timeout=5.0)
        world = World(folder, store, settings, topic, roles, links, broker, mounted)
        world.start(members)
        wait_until_sync(lambda: all(world.consumes(group, world.member(group)) for group in GROUPS), 60.0)
        yield world


def _topic(broker: Broker | None) -> TopicSettings:
    name = f"chaos-{token_hex(4)}"
    if broker is None:
        return TopicSettings(name=name, partitions=4, lease=1.0, send_timeout=1.0)
    kafka = KafkaSettings(
        bootstrap=broker.bootstrap, idempotent=broker.idempotent, session_timeout=broker.session_timeout
    )
    return TopicSettings(backend=TopicBackend.KAFKA, name=name, partitions=4, send_timeout=3.0, kafka=kafka)
