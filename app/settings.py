"""Settings of the service."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import Field, PlainSerializer, PlainValidator, SecretStr, WithJsonSchema

from recsys.messages.wire import invalid_input
from recsys.recommender.placement import Placement, PlacementName
from recsys.settings import RegistrySettings, Seconds, Section, StoreSettings, TimeBounds, TopicSettings


class Scope(StrEnum):
    """Rights of an API key; docs/api.md says which routes each opens."""

    RECOMMEND = "recommend"
    EVENTS = "events"
    CATALOGUE = "catalogue"
    USERS = "users"
    ADMIN = "admin"


NARROWED = frozenset({Scope.CATALOGUE, Scope.USERS})
"""Scopes that `events` included at first."""
PerSecond = Annotated[float, Field(gt=0, le=1_000_000)]
Burst = Annotated[int, Field(ge=1, le=1_000_000)]


class ApiKey(Section):
    """One caller. The key itself is never stored, only its SHA-256 (`millirec key` makes both)."""

    name: str = Field(min_length=1, max_length=64, description="who holds it; appears in logs and audit entries")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(description="recommend, events, catalogue, users, admin")
    requests_per_second: PerSecond | None = Field(
        None, description="before more get 429, per process; as `serve.requests_per_second` when unset"
    )
    burst: Burst | None = Field(None, description="requests at once; as `serve.burst` when unset")


def _to_placements(value: object) -> dict[str, Placement]:
    """Placements by name. Raises `ValueError` naming the field: `home.sources.0.share: ...`."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected placements by name, got {type(value).__name__}")
    return {
        _convert(name, PlacementName, name): _convert(placement, Placement, name) for name, placement in value.items()
    }


def _convert(value: object, kind: Any, name: object) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        wrong = invalid_input(error, str(name))
        raise ValueError(f"{wrong.field}: {wrong.reason}") from error


def _schema() -> dict[str, Any]:
    """The JSON schema of placements without references, since pydantic's document cannot hold their definitions."""
    (schema,), definitions = msgspec.json.schema_components([dict[PlacementName, Placement]], ref_template="{name}")

    def inline(node: Any) -> Any:
        """`node` with each reference replaced by its definition."""
        if isinstance(node, dict):
            reference = definitions.get(node.get("$ref", ""), {})
            return {key: inline(child) for key, child in {**reference, **node}.items() if key != "$ref"}
        return [inline(child) for child in node] if isinstance(node, list | tuple) else node

    described: dict[str, Any] = inline(schema)
    return described


Placements = Annotated[
    dict[str, Placement],
    PlainValidator(_to_placements),
    PlainSerializer(msgspec.to_builtins),
    WithJsonSchema(_schema()),
]


class ServeSettings(Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    keys: tuple[ApiKey, ...] = Field(
        (), description="none: authentication is off, and the service listens on this machine only"
    )
    allow_anonymous: bool = Field(
        False,
        description="without keys, listen on other addresses than loopback too: whoever reaches the port may do all",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="host names a service without keys answers to, besides `host` and loopback's: as in shop-api"
    )
    placements: Placements = Field(
        default_factory=dict,
        description="by name, over the ready-made ones: `default` answers when none is named, `discover` shows only "
        "what is new to the user; `home`, `product`, `cart`, `trending` and `new`",
    )
    requests_per_second: PerSecond | None = Field(
        None, description="of a key (of everybody, without keys) before more get 429, per process; unset: no limit"
    )
    burst: Burst | None = Field(
        None, description="requests of a key at once, within its rate over time; as many as in a second when unset"
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="web origins whose pages may call from the browser: https://shop.example.com"
    )
    docs: bool = Field(True, description="the page /docs, and /openapi.json and /asyncapi.json")
    metrics_interval: Seconds = Field(1.0, description="seconds between two makings of the text at /metrics")
    max_body_bytes: int = Field(1_048_576, ge=1024, description="of one request; more gets 413")
    max_bodies_bytes: int = Field(
        67_108_864, ge=65_536, description="bodies of the requests under way in one process, together; more get 503"
    )
    max_head_bytes: int = Field(
        32_768, ge=4096, le=1_048_576, description="of a request's URL and headers together; more get 414 or 431"
    )
    max_head_fields: int = Field(100, ge=10, le=10_000, description="headers of a request; more get 431")
    head_timeout: Seconds = Field(10.0, description="seconds for the head of a request, from its first byte; else 408")
    body_timeout: Seconds = Field(10.0, description="seconds for the body of a request, from the end of its head")
    write_timeout: Seconds = Field(
        10.0, description="seconds in which a client has to read 256 KiB of a large answer, or is cut off"
    )
    max_connections: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="of one process; more and the one idle for longest is closed. None: 4096, or fewer where the "
        "system's limit of open files is lower",
    )
    max_batch: int = Field(1000, ge=1, le=10_000, description="events or items in one request")
    max_unacknowledged_bytes: int = Field(
        16_777_216,
        ge=1024,
        description="of events, items and erasures waiting to be kept, per process, before more get 503; "
        "in memory a byte of them costs about ten",
    )
    spool: Path | None = Field(
        None,
        description="a folder that keeps events while the topic is down; none: they get 503. It has to be a volume "
        "that outlives the container (with compose and Helm, mount one), on a local disk, not shared by machines",
    )
    spool_limit: int = Field(
        268_435_456, ge=65_536, description="bytes each worker process may put there before events get 503 after all"
    )
    spool_reserve: int = Field(
        33_554_432,
        ge=0,
        description="bytes of that disk that the spool leaves free: with less, events get 503 rather than fill it up",
    )
    alias: str = Field("live", description="the alias this service follows")
    poll_interval: Seconds = Field(1.0, description="seconds between looks at the alias; notifications come sooner")
    deadline: Seconds = Field(
        0.25, description="seconds until an answer that is not there yet is made of popular items"
    )
    trends_interval: Seconds = Field(5.0, description="seconds between looks at what is counted as trending")
    max_in_flight: int = Field(
        32, ge=1, le=100_000, description="recommendations being answered in one process before more get 503 at once"
    )
    max_batches: int = Field(
        16, ge=1, le=10_000, description="batches of recommendations being answered in one process before more get 503"
    )
    max_waiting: int = Field(
        512,
        ge=1,
        le=100_000,
        description="requests of all other routes, which wait for a store, the topic or the registry, in one process "
        "before more get 503",
    )
    max_batch_items: int = Field(
        100_000, ge=1, le=10_000_000, description="users x k of one batch; what it may have in its answer"
    )
    cursor_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="signs the cursors of pages; unset: made of the keys' hashes, the same on every replica",
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
    bounds: TimeBounds = TimeBounds()
