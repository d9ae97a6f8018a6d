"""The catalogue: the items of an index with everything that changed since."""
