"""Checks of Ray cluster files before they cost money."""
