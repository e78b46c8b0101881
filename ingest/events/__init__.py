"""Bytes in, validated events and Avro records out. Pure: no Flask, no Kafka, no disk."""
