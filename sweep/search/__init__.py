"""Choosing hyperparameters: samplers per cell, early stopping, confirmation."""
