"""Candidate sources: each file gives rows that may be shown, best first, and says how a score came about."""
