"""Standalone: all of millirec on one machine, supervised."""
