"""The service in process, shared by the tests of a module: they are many, and each is short."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.settings import AppSettings, ServeSettings
from recsys.settings import RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from tests.environment.versions import publish_small_version


def app_settings(valkey_url: str, folder: Path, **serve: Any) -> AppSettings:
    """Of a service with the versions `first` (live) and `second`."""
    registry = RegistrySettings(url=str(folder / "registry"), cache=folder / "cache")
    opened = open_model_registry(registry)
    for seed, version in enumerate(("first", "second")):
        publish_small_version(opened, folder / "built", version, seed)
    promote(opened, "first", actor="test", reason="start")
    return AppSettings(
        serve=ServeSettings(poll_interval=0.1, deadline=10.0, **serve),
        topic=TopicSettings(partitions=2),
        store=StoreSettings(url=SecretStr(valkey_url), prefix=f"{folder.name}:", read_timeout=5.0),
        registry=registry,
    )
