"""Tests of ingest/server."""
