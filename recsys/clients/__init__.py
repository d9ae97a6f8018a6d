"""Clients of stores and brokers: connection, deadline and translated errors, once per backend."""
