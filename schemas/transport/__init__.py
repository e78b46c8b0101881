"""How both services connect to servers: URLs, TLS, credentials, librdkafka's properties."""
