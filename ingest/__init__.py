"""The ingress: HTTP in, Avro on Kafka out."""
