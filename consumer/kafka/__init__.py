"""The log: reading, committing, dead letters, and what an admin client knows. Nothing else imports confluent_kafka."""
