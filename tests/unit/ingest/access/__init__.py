"""Tests of ingest/access."""
