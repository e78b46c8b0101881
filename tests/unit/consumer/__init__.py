"""Tests of consumer."""
