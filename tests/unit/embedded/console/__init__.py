"""Tests of deploy/embedded/console."""
