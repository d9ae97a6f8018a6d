"""The recommender: from the log to item factors, tables and a search index."""
