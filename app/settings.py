"""Settings of the service."""

from enum import StrEnum
from typing import Annotated

import msgspec
from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from recsys.placement import Placement, PlacementName
from recsys.settings import RegistrySettings, Seconds, Section, StoreSettings, TopicSettings


class Scope(StrEnum):
    """What an API key may do."""

    RECOMMEND = "recommend"
    EVENTS = "events"
    ADMIN = "admin"


class ApiKey(Section):
    """One caller. The key itself is never stored, only its SHA-256 (`millirec key` makes both)."""

    name: str = Field(min_length=1, max_length=64, description="who holds it; appears in logs and audit entries")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(description="recommend, events, admin")


def _to_placements(value: object) -> dict[str, Placement]:
    try:
        return msgspec.convert(value, dict[PlacementName, Placement])
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


Placements = Annotated[
    dict[str, Placement],
    PlainValidator(_to_placements),
    PlainSerializer(msgspec.to_builtins),
    WithJsonSchema(msgspec.json.schema(dict[PlacementName, Placement])),
]


class ServeSettings(Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    keys: tuple[ApiKey, ...] = Field((), description="none: authentication is off, with a warning")
    placements: Placements = Field(
        default_factory=dict,
        description="by name, over the ready-made ones: `default` answers when none is named, `discover` shows only "
        "what is new to the user; `home`, `product`, `cart`, `trending` and `new`",
    )
    cors_origins: tuple[str, ...] = Field((), description="web origins whose pages may call from the browser")
    max_body_bytes: int = Field(1_048_576, ge=1024)
    max_batch: int = Field(1000, ge=1, le=10_000, description="events or items in one request")
    alias: str = Field("live", description="the alias this service follows")
    poll_interval: Seconds = Field(1.0, description="seconds between looks at the alias; nudges come sooner")
    max_in_flight: int = Field(
        64, ge=1, le=100_000, description="recommendations being answered in one process before more get 503 at once"
    )
    drain_wait: float = Field(
        0.3,
        ge=0,
        le=300,
        description="seconds between SIGTERM, when readiness goes off, and the closing of the port; "
        "behind a load balancer, as long as it needs to notice",
    )
    shutdown_timeout: Seconds = Field(10.0, description="seconds that requests in flight get after that")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")


class AppSettings(Section):
    """All that `create_app` needs."""

    serve: ServeSettings = ServeSettings()
    topic: TopicSettings = TopicSettings()
    store: StoreSettings = StoreSettings()
    registry: RegistrySettings = RegistrySettings()
