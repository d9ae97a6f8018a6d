"""Checkup: what `millirec doctor` looks at, one module per part of a deployment; everything found says what to do."""

from millirec.checkup.finding import Finding, State
from millirec.checkup.run import examine

__all__ = ["Finding", "State", "examine"]
