"""The benches' own arithmetic."""
