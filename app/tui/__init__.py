"""The app: one folder a feature."""
