"""Batches: rows of foreign files, mapped, cleansed, validated and accounted for."""
