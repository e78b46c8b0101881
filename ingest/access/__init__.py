"""Who may send, and how much: API keys and rate limits."""
