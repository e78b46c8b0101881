"""The event in its three forms: wire, memory and table."""
