"""Algorithms that learn item factors, a file each: a new file in this folder is a new `train.algorithm`."""

from importlib import import_module
from pkgutil import iter_modules

from pydantic import ValidationError

from recsys.errors import InvalidInput
from training.recommender.algorithms.protocol import Algorithm
from training.settings import TrainSettings

SHARED = {"protocol"}


def algorithm_names() -> list[str]:
    """Return what `train.algorithm` may be, sorted."""
    return sorted({module.name for module in iter_modules(__path__)} - SHARED)


def open_algorithm(settings: TrainSettings) -> Algorithm:
    """Return the algorithm that `settings` name, with its parameters.

    Raises `InvalidInput` naming `train.algorithm`, or the parameter that is unknown or out of its bounds.
    """
    if settings.algorithm not in algorithm_names():
        raise InvalidInput("train.algorithm", f"{settings.algorithm!r} is none of {', '.join(algorithm_names())}")
    module = import_module(f"{__name__}.{settings.algorithm}")
    try:
        parameters = module.Parameters.model_validate(settings.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in ("train", "parameters", *first["loc"]))
        allowed = ", ".join(sorted(module.Parameters.model_fields))
        reason = f"{first['msg']} ({settings.algorithm} takes {allowed or 'none'})"
        raise InvalidInput(field, reason) from error
    algorithm: Algorithm = module.create(settings, parameters)
    return algorithm
