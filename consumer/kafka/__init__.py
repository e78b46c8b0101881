"""Kafka: reading, committing, dead letters, admin calls. Only `operations.group` imports confluent_kafka besides."""
