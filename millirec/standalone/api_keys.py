"""API keys of a standalone deployment: made at its first start, a file each in `DATA/keys`, which only its owner reads.

The service gets their hashes. A key that is deleted is made anew at the next start, and a scope that this release
has and an earlier one had not gets its key.
"""

import json
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

from app.settings import Scope
from recsys.errors import InvalidInput
from recsys.whole_file import OWNER_ONLY, write_whole

KEYS_VARIABLE = "MILLIREC_SERVE__KEYS"
MIN_LENGTH = 16
EVERYTHING = Scope.ADMIN
"""The key of this scope has all others too: it is for who runs the deployment."""


def make_key() -> str:
    """Return a new random API key."""
    return f"mr_{token_urlsafe(32)}"


def make_missing_keys(data: Path) -> list[str]:
    """Write a key for each scope that has none in `data`. Returns those scopes."""
    folder = _folder(data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing = [scope.value for scope in Scope if not (folder / scope.value).exists()]
    for name in missing:
        write_whole(folder / name, f"{make_key()}\n".encode(), durable=True, mode=OWNER_ONLY)
    return missing


def read_key(data: Path, scope: Scope) -> str | None:
    """Return the key of a scope, None where there is none. Raises `InvalidInput` for a file that holds no key."""
    path = _folder(data) / scope.value
    try:
        key = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        key = ""
    if len(key) < MIN_LENGTH:
        raise InvalidInput(str(path), "holds no key: delete it, and `millirec up` makes another")
    return key


def key_settings(data: Path) -> dict[str, str]:
    """Return the setting with the hash of each key, as an environment variable; empty for a deployment without keys."""
    keys = {scope: key for scope in Scope if (key := read_key(data, scope))}
    described = [
        {
            "name": scope.value,
            "sha256": sha256(key.encode()).hexdigest(),
            "scopes": [*Scope] if scope is EVERYTHING else [scope],
        }
        for scope, key in keys.items()
    ]
    return {KEYS_VARIABLE: json.dumps(described)} if described else {}


def _folder(data: Path) -> Path:
    return data / "keys"
