"""Checkpoints as models that other programs open."""
