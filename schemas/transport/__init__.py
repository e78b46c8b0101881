"""How both services reach other servers: TLS, credentials, Kafka's properties."""
