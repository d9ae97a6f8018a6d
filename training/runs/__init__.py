"""Training runs: what starts them, what they do, and what they publish."""
