"""Tests of ingest/publishing."""
