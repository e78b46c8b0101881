"""Durable or refused: Kafka first, the spool when Kafka is away."""
