"""Panels: the parts of pages, each about one thing."""
