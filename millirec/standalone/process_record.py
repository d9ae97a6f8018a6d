"""The state of a supervisor's processes, in a file of the data folder that other commands read."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from recsys.whole_file import write_whole

log = structlog.get_logger()
DATA_VARIABLE = "MILLIREC_DATA"
"""Names the data folder of the standalone deployment that the settings come from."""


class ProcessRecord(msgspec.Struct):
    """A process; `url` is where it answers (empty: nowhere), the last three fields describe its last end."""

    name: str
    log: str
    pid: int = 0
    url: str = ""
    running: bool = True
    restarts: int = 0
    ended_at: datetime | None = None
    ending: str = ""
    words: str = ""


class SupervisorRecord(msgspec.Struct):
    """All processes of the supervisor `pid`, which may have been killed since."""

    pid: int
    processes: Sequence[ProcessRecord]

    @property
    def alive(self) -> bool:
        """Whether the supervisor's process exists."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def path_in(data: Path) -> Path:
    """Return the path of the record in a data folder."""
    return data / "processes.json"


def write_record(data: Path, processes: Sequence[ProcessRecord]) -> None:
    """Write the record atomically; a write that fails is logged only."""
    path = path_in(data)
    try:
        write_whole(path, msgspec.json.encode(SupervisorRecord(os.getpid(), processes)))
    except OSError as error:
        log.warning("what runs cannot be recorded", path=str(path), error=str(error))


def running_url(data: Path, name: str) -> str | None:
    """Return where the process `name` of a running deployment in `data` answers, `None` where nothing runs."""
    record = read_record(data)
    if record is None or not record.alive:
        return None
    return next((process.url for process in record.processes if process.name == name and process.url), None)


def read_record(data: Path) -> SupervisorRecord | None:
    """Return the record, None where no supervisor runs on `data`."""
    try:
        return msgspec.json.decode(path_in(data).read_bytes(), type=SupervisorRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
