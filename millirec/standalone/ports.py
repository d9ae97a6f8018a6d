"""Ports of a standalone deployment: those of its last start, unless others are asked for."""

from pathlib import Path

import msgspec
import structlog

from recsys.whole_file import write_whole

log = structlog.get_logger()
FILE = "ports.json"


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of the HTTP service and of the web console."""

    service: int = 8000
    console: int = 8080


def choose_ports(data: Path, service: int | None, console: int | None) -> Ports:
    """Return the ports that are asked for; where none is, that of the last start in `data`, or the default."""
    last = _last(data)
    return Ports(service=service or last.service, console=console or last.console)


def remember_ports(data: Path, ports: Ports) -> None:
    """Write `ports` into the folder; a write that fails is logged only."""
    try:
        write_whole(data / FILE, msgspec.json.encode(ports))
    except OSError as error:
        log.warning("the ports are not remembered for the next start", error=str(error))


def _last(data: Path) -> Ports:
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Ports)
    except FileNotFoundError:
        return Ports()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("the ports of the last start cannot be read; the defaults are used", error=str(error))
        return Ports()
