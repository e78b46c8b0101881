"""Unit tests of what people run beside the workers."""
