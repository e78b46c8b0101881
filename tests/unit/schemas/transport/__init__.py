"""Tests of schemas/transport."""
