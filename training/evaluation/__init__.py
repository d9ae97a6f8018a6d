"""Evaluation: what a model is worth on events that it was not trained on."""
