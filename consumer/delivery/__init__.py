"""The protocol that inserts each record once. It knows no driver: Kafka and ClickHouse stand behind its ports."""
