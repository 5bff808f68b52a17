"""Resuming and extending a recorded run."""
