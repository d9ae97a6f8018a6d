"""The stream: consumer groups that apply messages of the topic."""
