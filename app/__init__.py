"""The two faces, terminal commands and the app: they consume events and never import torch."""
