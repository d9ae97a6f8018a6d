"""Provenance: code, packages, machine and data of a version, to rebuild it, and what differs in a rebuild."""

import hashlib
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from threadpoolctl import threadpool_info

import recsys
import training
from recsys.models.kinds import RecommenderSection, section_of
from recsys.models.manifest import Manifest, Provenance, flat

PACKAGES = ("implicit", "faiss-cpu", "numpy", "scipy", "polars", "deltalake", "msgspec")
FACTORS = "item_factors.npy"
RUNTIME_SETTINGS = {"threads", "gate", "lease_seconds", "trigger_seconds"}
"""Settings that do not change the factors."""


@cache
def code_version() -> str:
    """Return the package's version and a digest of the training code: commits between releases differ too.

    Computed once per process, since the running code is that of its start.
    """
    digest = hashlib.sha256()
    for package in (recsys, training):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return f"{package_version('millirec')}+{digest.hexdigest()[:12]}"


def provenance(interactions: pl.DataFrame) -> Provenance:
    """Return code, packages, machine and data. BLAS code, and so rounding, depends on the processor."""
    blas = sorted(
        {f"{library['internal_api']} {library.get('architecture', '')}".strip() for library in threadpool_info()}
    )
    return Provenance(
        code_version=code_version(),
        packages={name: package_version(name) for name in PACKAGES},
        machine={"python": sys.version.partition(" ")[0], "platform": platform.platform(), "blas": blas},
        data={"interactions": interactions.height, "digest": snapshot_digest(interactions)},
    )


def snapshot_digest(interactions: pl.DataFrame) -> str:
    """Return a digest of every row in order: a later erasure or merge changes old snapshots too."""
    digest = hashlib.blake2b(digest_size=16)
    for column in interactions.get_columns():
        plain = column.cast(pl.Int64) if column.dtype.is_temporal() else column
        joined = plain.cast(pl.String).fill_null("\0").str.join("\n").item()
        digest.update(f"{column.name}\n{joined}\n".encode())
    return digest.hexdigest()


def differences(original: Manifest, copy: Manifest) -> list[str]:
    """Return what differs between `original` and its rebuild `copy`, apart from times and names."""
    changes = [
        f"{name} was {expected!r}, is {actual!r}"
        for name, expected, actual in _pairs(_facts(original), _facts(copy))
        if expected != actual
    ]
    same = original.files.get(FACTORS) == copy.files.get(FACTORS)
    return changes if same else [f"{FACTORS} differs", *changes]


def _facts(manifest: Manifest) -> dict[str, Any]:
    training_settings = manifest.parameters.get("training", {})
    facts = msgspec.to_builtins(manifest.provenance) | {
        "log_version": section_of(manifest, RecommenderSection).log_version,
        "training": {name: value for name, value in training_settings.items() if name not in RUNTIME_SETTINGS},
    }
    return {"code": facts.pop("code_version"), **flat(facts)}


def _pairs(original: Mapping[str, Any], copy: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(name, original.get(name), copy.get(name)) for name in sorted(original.keys() | copy.keys())]


def package_version(name: str) -> str:
    """Return the installed version of a package, `unknown` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
