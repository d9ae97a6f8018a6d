"""What a process says of itself: logs, and what must not get into them."""
