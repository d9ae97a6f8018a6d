"""The whole settings tree: environment variables `MILLIREC_...` over a TOML file over defaults."""

import os
import re
from pathlib import Path
from tomllib import TOMLDecodeError

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from app.settings import AppSettings, ServeSettings
from ingest.settings import IngestSettings
from millirec.console_settings import ConsoleSettings
from recsys.errors import InvalidInput
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TimeBounds, TopicSettings
from training.recommender.algorithms import open_algorithm
from training.settings import TrainSettings

CONFIG_VARIABLE = "MILLIREC_CONFIG"
DEFAULT_CONFIG = Path("millirec.toml")


class Settings(BaseSettings):
    """One section per store and program. `MILLIREC_STORE__URL=redis://...` sets `store.url`."""

    model_config = SettingsConfigDict(
        env_prefix="MILLIREC_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

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
        """Return the sources of settings in order of precedence: environment, TOML file, arguments."""
        path = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
        return env_settings, TomlConfigSettingsSource(settings_cls, path), init_settings

    def app(self) -> AppSettings:
        """Return the settings of the HTTP service."""
        bounds = TimeBounds(earliest=self.ingest.earliest, future_tolerance=self.ingest.future_tolerance)
        return AppSettings(serve=self.serve, topic=self.topic, store=self.store, registry=self.registry, bounds=bounds)


def load_settings() -> Settings:
    """Return the effective settings. Raises `InvalidInput` that names each wrong setting on a line."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise InvalidInput(CONFIG_VARIABLE, f"names {named}, which is no file")
    try:
        settings = Settings()
    except ValidationError as error:
        raise settings_error(error) from None
    except SettingsError as error:
        # Its text names the section, and its cause holds the value, which may be a secret.
        section = re.search(r'field "(\w+)"', str(error))
        prefix = f"MILLIREC_{section[1].upper() if section else ''}"
        raise InvalidInput(
            prefix, f"a list or table in this variable or in one below it ({prefix}__...) is no JSON"
        ) from None
    except (OSError, UnicodeDecodeError, TOMLDecodeError) as error:
        raise InvalidInput(named or str(DEFAULT_CONFIG), f"cannot be read as TOML: {error}") from None
    open_algorithm(settings.train)
    return settings


def settings_error(error: ValidationError) -> InvalidInput:
    """Return the error for wrong settings, field by field, with the variable that sets each."""
    lines = []
    for wrong in error.errors(include_input=False, include_url=False, include_context=False):
        path = [str(part) for part in wrong["loc"]]
        variable = "MILLIREC_" + "__".join(path).upper()
        reason = wrong["msg"].removeprefix("Value error, ")
        lines.append(f"{'.'.join(path)} ({variable}): {reason}")
    return InvalidInput("the settings are not valid", "\n  ".join(["", *lines]))


def use_config(path: Path) -> None:
    """Make this process and its children read `path`."""
    os.environ[CONFIG_VARIABLE] = str(path.resolve())
