"""The workers: Kafka in, ClickHouse out."""
