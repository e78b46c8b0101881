"""Runs the whole pipeline on one machine, without containers."""
