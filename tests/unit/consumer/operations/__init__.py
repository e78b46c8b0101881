"""Tests of consumer/operations."""
