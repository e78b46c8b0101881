"""Events on disk while Kafka is away, and their way back to it."""
