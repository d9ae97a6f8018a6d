"""Locust scenarios, the capacity benchmark and the baselines it is compared with."""
