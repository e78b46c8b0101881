"""The console command `headrace`: it alone may import both services, and `deploy`. Each command loads what it needs."""
