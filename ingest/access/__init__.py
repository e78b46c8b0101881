"""Who may come in, and how often: client keys and rate limits."""
