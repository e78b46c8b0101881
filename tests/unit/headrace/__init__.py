"""Tests of headrace."""
