"""The service as the console sees it, over HTTP."""
