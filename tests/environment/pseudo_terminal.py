"""A terminal as a program sees it."""

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence


def shown(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of `command`, and all that it wrote to its terminal, escapes and all."""
    own, theirs = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(own, 65536):
            written += part
    except OSError:
        # Linux says so where a terminal has nobody left to write to it.
        pass
    finally:
        os.close(own)
    return process.wait(60), written.decode("utf-8", "surrogateescape")
