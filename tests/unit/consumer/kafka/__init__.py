"""Tests of consumer/kafka."""
