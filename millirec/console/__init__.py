"""The web console: a process of its own, which knows the service only over HTTP."""
