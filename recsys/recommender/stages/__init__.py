"""Stages of the pipeline: each file changes the drafts of a batch, and says why it left an item out."""
