"""The gate: whether a version may be published. A pure function over values; every check says what it saw."""

from training.gate.judge import Artefact, Check, Evidence, judge, reasons

__all__ = ["Artefact", "Check", "Evidence", "judge", "reasons"]
