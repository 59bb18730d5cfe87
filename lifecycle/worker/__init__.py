"""The worker: takes polls of commands, decides each in one transaction, publishes the events."""
