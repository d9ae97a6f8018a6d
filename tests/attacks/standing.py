"""`millirec up` as somebody runs it at a terminal: what it prints, what it runs, and its end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from millirec.standalone.process_record import ProcessRecord, read_record
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import free_port
from tests.environment.versions import publish_small_version
from tests.environment.waiting import wait_until_sync


@dataclass
class RunningDeployment:
    """A running `millirec up` on the folder `data`."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    printed: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.printed.read_text()

    def client(self, scope: str) -> httpx.Client:
        """With the key of `scope`, if the deployment has keys."""
        path = self.data / "keys" / scope
        headers = {"X-API-Key": path.read_text().strip()} if path.exists() else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10.0)

    def child(self, name: str) -> ProcessRecord:
        record = read_record(self.data)
        assert record is not None
        return next(process for process in record.processes if process.name == name)

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Until it is printed."""
        wait_until_sync(lambda: text in self.output or self.process.poll() is not None, timeout)
        assert text in self.output, self.output

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0, self.output


def environment_of(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILLIREC_")}
    return {**inherited, "COLUMNS": "300", **variables}


def up_command(data: Path, port: int, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "millirec", "up", "--data", str(data), "--port", str(port)]
    return [*command, "--retrain-hours", "0", *arguments]


@contextmanager
def standing(data: Path, *arguments: str, umask: int = -1, **variables: str) -> Iterator[RunningDeployment]:
    """`millirec up`, which need not be ready yet; without the console unless `arguments` name its port."""
    port = free_port()
    printed = data.parent / "up.out"
    arguments = arguments if "--console-port" in arguments else (*arguments, "--no-console")
    with printed.open("wb") as output:
        process = subprocess.Popen(
            up_command(data, port, *arguments),
            env=environment_of(**variables),
            stdout=output,
            stderr=output,
            umask=umask,
        )
    try:
        yield RunningDeployment(process, data, port, printed)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.wait(60)


def publish_version(data: Path, scratch: Path) -> None:
    """A small version, live in the registry of `data`."""
    registry = open_model_registry(RegistrySettings(url=str(data / "registry")))
    publish_small_version(registry, scratch, "first", 0)
    promote(registry, "first", actor="test", reason="start")


def logged_ids(data: Path) -> list[str]:
    """The ids of all events in the log of `data`."""
    from recsys.settings import LogSettings
    from recsys.stores.event_log import open_interaction_log

    log = open_interaction_log(LogSettings(path=str(data / "log")))
    return [] if log.version() < 0 else log.read().collect()["event_id"].to_list()
