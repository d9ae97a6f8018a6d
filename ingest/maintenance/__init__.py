"""Maintenance: rebuilding, tidying, and applying dead letters again."""
