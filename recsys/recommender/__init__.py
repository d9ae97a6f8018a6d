"""The recommender: pure and synchronous, no clients and no frameworks."""
