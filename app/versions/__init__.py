"""Versions in memory, and the watchers that bring changes to them."""
