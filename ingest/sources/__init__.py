"""Sources of raw rows, and what they yield."""
