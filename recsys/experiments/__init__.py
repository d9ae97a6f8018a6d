"""Experiments on real requests: rollouts, canaries, shadows, and how sure their results are."""
