"""Seam: operators change settings at run time, app follows them."""

from recsys.settings import RegistrySettings
from recsys.stores.settings_log.protocol import SettingsLog

__all__ = ["SettingsLog", "open_settings_log"]


def open_settings_log(settings: RegistrySettings) -> SettingsLog:
    """The settings log on the registry's object store, which is in memory where `settings.backend` says so."""
    from recsys.clients.objects import Objects
    from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog

    return ObjectStoreSettingsLog(Objects("memory:" if settings.backend == "memory" else settings.url))
