"""What operators run beside the workers. `plans` and `divergence` are pure; `group` wraps Kafka's driver."""
