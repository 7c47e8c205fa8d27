"""Runs, their checkpoints and results."""
