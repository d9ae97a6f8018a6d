"""Private files: what holds users' data is for its owner alone, whatever the umask of the shell was."""

import os
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from recsys.errors import Conflict, InvalidInput

UMASK_VARIABLE = "MILLIREC_UMASK"
PRIVATE = 0o077
"""The umask: nothing for the group and others."""


def set_umask() -> None:
    """Set the umask of this process and its children from `MILLIREC_UMASK`, 077 without. Raises `InvalidInput`."""
    text = os.environ.get(UMASK_VARIABLE, f"{PRIVATE:03o}")
    try:
        mask = int(text, 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= 0o777 or mask & 0o700:
        raise InvalidInput(UMASK_VARIABLE, f"{text!r} is no umask that leaves the owner all rights, such as 077")
    os.umask(mask)


def current_umask() -> int:
    """Return the umask of this process."""
    mask = os.umask(PRIVATE)
    os.umask(mask)
    return mask


def make_private(folder: Path) -> bool:
    """Remove the rights that the umask denies from an existing folder. Returns whether there were any."""
    open_bits = stat.S_IMODE(folder.stat().st_mode) & current_umask()
    if not open_bits or folder.stat().st_uid != os.geteuid():
        return False
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~open_bits)
    return True


def temporary_folder(of: Path) -> Path:
    """Return a private folder in the temporary directory that belongs to the path `of`, created if needed.

    Raises `Conflict` for a folder that others own or can use, since everybody may write to that directory.
    """
    name = f"millirec-{os.geteuid()}-{sha256(str(of).encode()).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & PRIVATE:
        raise Conflict(
            f"{folder} is not a folder that only you can use: somebody else may have made it. Remove it, or set "
            "TMPDIR to a directory of your own, or use a shorter --data path"
        )
    return folder
