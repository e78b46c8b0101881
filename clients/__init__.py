"""What calls the collector: `browser` is served by the ingress, `python` is a module without dependencies."""
