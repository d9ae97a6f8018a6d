"""Logs of a process, and the removal of secrets from them."""
