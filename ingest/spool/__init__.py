"""Keeps events on disk while Kafka is away, and sends them when it is back."""
