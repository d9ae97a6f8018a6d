"""Filters: expressions over items, and the conditions they are compiled to."""
