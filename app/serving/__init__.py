"""Serving: from a query to an answer, and what keeps it fast when a store is not."""
