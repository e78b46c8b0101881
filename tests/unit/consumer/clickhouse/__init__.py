"""Tests of consumer/clickhouse."""
