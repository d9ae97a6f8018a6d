"""The demo: what it shows, and the check of its promises."""
