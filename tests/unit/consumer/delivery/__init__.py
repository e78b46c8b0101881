"""Tests of consumer/delivery."""
