"""The index of a model version: its files, and what they are when opened."""
