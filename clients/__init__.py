"""What calls the collector: the ingress serves `browser`."""
