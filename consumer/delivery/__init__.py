"""The protocol that inserts each record exactly once. It imports no driver: Kafka and ClickHouse are behind ports."""
