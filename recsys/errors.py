"""Every error the domain can raise.

RecsysError
├── InvalidInput          the caller sent something wrong; names the field
├── NotFound              no such item, version, alias or user
├── Conflict              another writer was faster, or it already exists
├── Unavailable           another system cannot take this now; try again after `retry_after`
│   ├── TopicUnavailable
│   ├── StoreUnavailable
│   ├── LogUnavailable
│   └── RegistryUnavailable
│       └── RegistryOutdated
├── CorruptArtefact       a checksum, shape or format does not hold; never serve it
│   └── OutdatedArtefact  an earlier release wrote it, in a format that this one does not read
├── GateRefused           a version did not pass the quality gate
└── NotEnoughData         training was asked to learn from too little

No status codes here: `app.http.problems` maps these to HTTP, `millirec` maps them to exit codes.
"""

from recsys.observability.text import masked


class RecsysError(Exception):
    """Base of every error raised on purpose; `str(error)` is fit to show to a user."""

    def __str__(self) -> str:
        return masked(super().__str__())


class InvalidInput(RecsysError):
    """The input is wrong. `field` is a path such as `interactions.3.user_id`, `code` the kind of reason.

    Codes of messages are `recsys.messages.limits.ReasonCode`.
    """

    def __init__(self, field: str, reason: str, code: str = "invalid") -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.code = code


class NotFound(RecsysError):
    """The `kind` of thing (item, version, alias, user) named `name` does not exist; `hint` says what does."""

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"{kind} {name!r} does not exist{hint and '; '}{hint}")
        self.kind = kind
        self.name = name


class Conflict(RecsysError):
    """The state changed under the caller, or the thing to create exists already."""


class Unavailable(RecsysError):
    """Another system cannot take this now. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TopicUnavailable(Unavailable):
    """The interaction topic did not acknowledge in time, or is full."""


class StoreUnavailable(Unavailable):
    """The feature store did not answer in time."""


class LogUnavailable(Unavailable):
    """The interaction log could not be read or written."""


class RegistryUnavailable(Unavailable):
    """The model registry could not be read or written."""


class RegistryOutdated(RegistryUnavailable):
    """The model registry holds nothing but what an earlier release wrote, which this one does not read."""


class CorruptArtefact(RecsysError):
    """An artefact's checksum, shape or format version does not hold."""


class OutdatedArtefact(CorruptArtefact):
    """An earlier release wrote the artefact, in a format that this one does not read: train anew."""


class GateRefused(RecsysError):
    """A version did not pass the quality gate. `reasons` lists every reason."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class NotEnoughData(RecsysError):
    """The log holds too little to train or to evaluate on."""
