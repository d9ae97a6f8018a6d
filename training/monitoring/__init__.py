"""Monitoring: how data and quality change after a model was trained."""
