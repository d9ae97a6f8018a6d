"""The login, and who may see the console."""
