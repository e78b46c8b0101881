"""Tests of ingest/spool."""
