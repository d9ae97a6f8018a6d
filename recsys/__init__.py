"""The shared words, the pure recommender, and the stores between the three programs."""
