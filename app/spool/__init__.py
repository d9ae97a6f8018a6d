"""The way of an event to the topic, and the disk where it waits while the topic is down."""
