"""millirec as its users run it: real processes, a real Valkey, HTTP from outside."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from recsys.settings import RegistrySettings, StoreSettings
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from tests.environment.waiting import wait_until_sync


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Deployment:
    """One folder, one environment, any number of `millirec` processes."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def on(cls, store: StoreSettings, folder: Path, extra: Mapping[str, str] | None = None) -> "Deployment":
        settings = {
            "MILLIREC_STORE__URL": store.url.get_secret_value(),
            "MILLIREC_STORE__PREFIX": store.prefix,
            # A busy machine is no reason for another answer.
            "MILLIREC_STORE__READ_TIMEOUT": "10.0",
            "MILLIREC_SERVE__DEADLINE": "30",
            "MILLIREC_TOPIC__PARTITIONS": "2",
            "MILLIREC_TOPIC__LEASE": "1.0",
            "MILLIREC_LOG__PATH": str(folder / "log"),
            "MILLIREC_REGISTRY__URL": str(folder / "registry"),
            "MILLIREC_REGISTRY__CACHE": str(folder / "cache"),
            "MILLIREC_INGEST__REJECTED": str(folder / "rejected"),
            "MILLIREC_TRAIN__REPORTS": str(folder / "reports"),
        }
        return cls(folder, {**os.environ, **settings, **(extra or {})})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def registry(self) -> ModelRegistry:
        return open_model_registry(RegistrySettings(url=str(self.folder / "registry")))

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`millirec ARGUMENTS` in the background; what it prints is in `folder/NAME.out`."""
        with (self.folder / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "millirec", *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def run(self, *arguments: str) -> str:
        """`millirec ARGUMENTS` to its end; what it printed. Fails when it does."""
        done = subprocess.run(
            [sys.executable, "-m", "millirec", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"millirec {arguments} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, *arguments: str) -> None:
        """Start the service and wait until it is ready."""
        process = self.start("serve", "serve", "--port", str(self.port), *arguments)

        def ready() -> bool:
            assert process.poll() is None, self.output("serve")
            try:
                return httpx.get(f"{self.url}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until_sync(ready, 60.0)

    def recommend(self, user_id: str, k: int = 10) -> dict[str, Any]:
        response = httpx.get(f"{self.url}/recommend", params={"user_id": user_id, "k": k}, timeout=10.0)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def kill(self, name: str) -> None:
        """kill -9, with all it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for name, process in self.processes.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError(f"{name} did not stop on SIGTERM:\n{self.output(name)}") from None


@contextmanager
def deployed(store: StoreSettings, folder: Path, extra: Mapping[str, str] | None = None) -> Iterator[Deployment]:
    """A deployment whose processes end with the block."""
    deployment = Deployment.on(store, folder, extra)
    try:
        yield deployment
    finally:
        deployment.stop()
