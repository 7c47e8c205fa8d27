"""Typed commands and the full-screen app: they consume events and never import torch."""
