"""Settings of the stores; each program adds its own section and `millirec.settings` is the whole tree."""

import re
from collections.abc import Callable, Iterable, Set
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from recsys.messages.interaction import FUTURE_TOLERANCE
from recsys.observability.text import masked

Seconds = Annotated[float, Field(gt=0, le=3600)]
_UNSAFE = re.compile(r"://(?!/)[^@]*[\s\"<>][^@]*@")


class Section(BaseModel):
    """A frozen part of the tree in which a misspelt name, and what is no finite number, is an error.

    Neither it nor its errors show a secret.
    """

    # What is no finite number would be null in JSON, and so in a manifest that nobody could open.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_serializer(mode="wrap")
    def _in_order(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A set comes in the order of this process's hashes: two manifests of the same settings would differ.
        dumped: dict[str, Any] = dump(self)
        return {
            name: sorted(value) if isinstance(value, list) and isinstance(getattr(self, name, None), Set) else value
            for name, value in dumped.items()
        }

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            shown = sorted(value) if isinstance(value, Set) else value
            yield name, value if isinstance(value, SecretStr | Section) else masked(str(shown))


def url_of(*schemes: str) -> Callable[[str | SecretStr], Any]:
    """The check of a setting that is a URL of one of `schemes`, or a path where "" is among them."""
    expected = ", ".join(f"{scheme}://" for scheme in schemes if scheme) + " or a folder" * ("" in schemes)

    def check(value: str | SecretStr) -> Any:
        """`value` itself. Raises `ValueError` for a URL of another scheme, or one that is malformed."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        if scheme not in schemes:
            raise ValueError(f"should be {expected}")
        if _UNSAFE.search(text):
            raise ValueError("has a space, a quote or <> before the @: percent-encode it")
        if scheme and not text.isprintable():
            raise ValueError("has characters that cannot be printed")
        if scheme and scheme != "unix":
            try:
                _ = urlsplit(text).port
            except ValueError:
                raise ValueError("has a port that is not a number up to 65535; percent-encode a password") from None
        return value

    return check


def _brokers(value: str) -> str:
    if not value or re.search(r"[@/\s]", value):
        raise ValueError("should be host:port[,host:port...], without a scheme; who connects is for sasl_username")
    return value


StorageUrl = Annotated[
    str, AfterValidator(url_of("", "file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl"))
]
"""A local folder, or a bucket."""


class TimeBounds(Section):
    """When a message may say that it happened: the door refuses what lies outside, and so does ingest."""

    future_tolerance: float = Field(
        FUTURE_TOLERANCE,
        ge=0,
        le=86400,
        description="seconds an event may lie ahead of the clock before it is refused, at the door and from the topic; "
        "there a minute more, since the clocks of two machines differ",
    )
    earliest: AwareDatetime = Field(
        datetime(2000, 1, 1, tzinfo=UTC),
        description="events before this are refused as broken clocks, at the door, from the topic and by imports",
    )


class TopicBackend(StrEnum):
    """Backends of the interaction topic."""

    KAFKA = "kafka"
    REDIS = "redis"
    MEMORY = "memory"


class KafkaSettings(Section):
    """Connection to Kafka. SASL and TLS as in librdkafka's and aiokafka's words."""

    bootstrap: Annotated[str, AfterValidator(_brokers)] = Field(
        "localhost:9092",
        description="host:port[,host:port...]; who connects is for sasl_username",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = Field(None, description="CA bundle; the system's when unset")
    ssl_cert_file: Path | None = Field(None, description="client certificate, for mutual TLS")
    ssl_key_file: Path | None = None
    idempotent: bool = Field(True, description="exactly one copy per send; turn off only for brokers without it")
    session_timeout: Seconds = 10.0
    replication_factor: int = Field(-1, ge=-1, description="of topics created here; -1: the broker's default")


class TopicSettings(Section):
    """The interaction topic."""

    backend: TopicBackend = TopicBackend.REDIS
    name: str = Field("interactions", pattern=r"^[a-zA-Z0-9._-]{1,200}$")
    partitions: int = Field(4, ge=1, le=1024)
    send_timeout: Seconds = Field(2.0, description="how long an event may wait for its acknowledgement")
    max_in_flight: int = Field(10_000, ge=1, description="messages waiting for acknowledgement before 503")
    max_length: int = Field(1_000_000, ge=1, description="Streams: messages kept per partition before 503")
    retention: float = Field(7 * 86400, gt=0, description="Streams: seconds until an idle topic expires")
    lease: Seconds = Field(5.0, description="Streams: seconds until a silent consumer's partitions pass on")
    kafka: KafkaSettings = KafkaSettings()


class StoreSettings(Section):
    """The feature store; Streams use the same server."""

    backend: Literal["redis", "memory"] = "redis"
    url: Annotated[SecretStr, AfterValidator(url_of("redis", "rediss", "unix"))] = Field(
        SecretStr("redis://localhost:6379/0"), description="redis://, rediss:// or unix://"
    )
    prefix: str = Field("millirec:", max_length=64)
    read_timeout: float = Field(0.015, gt=0, le=10, description="seconds a serving read may take")
    timeout: Seconds = Field(2.0, description="seconds any other call may take")
    connections: int = Field(16, ge=1, le=1000)
    history_length: int = Field(
        200,
        ge=1,
        le=10_000,
        description="interactions remembered per user; among them, or the newest 500 if more, an event_id counts once "
        "online; in the log it does so without a limit",
    )
    user_ttl: float = Field(400 * 86400, gt=0, description="seconds until a silent user is forgotten")
    item_ttl: float = Field(400 * 86400, gt=0)


class LogSettings(Section):
    """The interaction log: a folder of Delta tables."""

    backend: Literal["delta", "memory"] = "delta"
    path: StorageUrl = Field(
        "var/log", description="a local folder, or s3://, gs://, az:// with credentials from the environment"
    )
    retention: float = Field(
        7 * 86400,
        ge=3600,
        le=3650 * 86400,
        description="seconds a version of the log stays readable; by then what was erased has left the last file",
    )


class RegistrySettings(Section):
    """The model registry."""

    backend: Literal["object_store", "memory"] = "object_store"
    url: StorageUrl = Field(
        "var/registry", description="a local folder, or s3://, gs://, az:// with credentials from the environment"
    )
    cache: Path = Field(Path("var/cache"), description="where this machine keeps the versions it serves")
    cache_versions: int = Field(
        4, ge=1, le=1000, description="versions kept there; those in use stay, whatever it takes"
    )
    cache_bytes: int | None = Field(None, ge=0, description="bytes kept there, in the same way; any number when unset")
