"""Settings of the service."""

from enum import StrEnum

from pydantic import Field, field_validator

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


class Placement(Section):
    """How answers for one place in the frontend are made."""

    k: int = Field(10, ge=1, le=500, description="items when the request names no k")
    exclude_seen: bool = Field(
        False, description="leave out what the user interacted with before; a shop sells the same thing twice"
    )
    categories: frozenset[str] = Field(frozenset(), description="only items of any of these; empty: all")
    properties: tuple[str, ...] = Field((), description="item properties returned when the request names none")


class ServeSettings(Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    keys: tuple[ApiKey, ...] = Field((), description="none: authentication is off, with a warning")
    placements: dict[str, Placement] = Field(
        default_factory=dict,
        validate_default=True,
        description="by name; `default` answers when none is named, `discover` shows only new items",
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

    @field_validator("placements")
    @classmethod
    def _with_ready_made(cls, placements: dict[str, Placement]) -> dict[str, Placement]:
        return {"default": Placement(), "discover": Placement(exclude_seen=True), **placements}


class AppSettings(Section):
    """All that `create_app` needs."""

    serve: ServeSettings = ServeSettings()
    topic: TopicSettings = TopicSettings()
    store: StoreSettings = StoreSettings()
    registry: RegistrySettings = RegistrySettings()
