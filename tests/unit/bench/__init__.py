"""The benches' own arithmetic, and what makes their events and load."""
