"""Showing a run: the live grid, status, metrics, experiment trackers."""
