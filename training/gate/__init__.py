"""The gate: whether a version may be published. A pure function over values; every check says what it saw."""

from training.gate.check import Check, reasons
from training.gate.judge import Artefact, Evidence, judge

__all__ = ["Artefact", "Check", "Evidence", "judge", "reasons"]
