"""The whole settings tree: environment variables `MILLIREC_...` over a TOML file over defaults."""

import os
from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from app.settings import AppSettings, ServeSettings
from ingest.settings import IngestSettings
from millirec.console_settings import ConsoleSettings
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TimeBounds, TopicSettings
from training.settings import TrainSettings

CONFIG_VARIABLE = "MILLIREC_CONFIG"
DEFAULT_CONFIG = Path("millirec.toml")


class Settings(BaseSettings):
    """One section per seam and program. `MILLIREC_STORE__URL=redis://...` sets `store.url`."""

    model_config = SettingsConfigDict(env_prefix="MILLIREC_", env_nested_delimiter="__", extra="forbid", frozen=True)

    topic: TopicSettings = TopicSettings()
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    registry: RegistrySettings = RegistrySettings()
    serve: ServeSettings = ServeSettings()
    ingest: IngestSettings = IngestSettings()
    train: TrainSettings = TrainSettings()
    console: ConsoleSettings = ConsoleSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
        return env_settings, TomlConfigSettingsSource(settings_cls, path), init_settings

    def app(self) -> AppSettings:
        bounds = TimeBounds(earliest=self.ingest.earliest, future_tolerance=self.ingest.future_tolerance)
        return AppSettings(serve=self.serve, topic=self.topic, store=self.store, registry=self.registry, bounds=bounds)


def load_settings() -> Settings:
    """The effective settings. Raises `pydantic.ValidationError`, or `FileNotFoundError` for a named file."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise FileNotFoundError(f"{CONFIG_VARIABLE} names {named}, which does not exist")
    return Settings()


def use_config(path: Path) -> None:
    """Make this process and its children read `path`."""
    os.environ[CONFIG_VARIABLE] = str(path.resolve())
