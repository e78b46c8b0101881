"""Parts on the real thing."""
