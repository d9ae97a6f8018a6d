"""Thin routes: read the request, call one thing, write the answer."""
