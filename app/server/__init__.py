"""The edge: limits on connections before a request is authenticated."""
