"""The shared words, the pure recommender, and the four seams between the three programs."""
