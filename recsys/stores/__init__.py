"""Stores, a folder per concept: the contract, its backends, and a function that opens it."""
