"""A job or run while it happens."""
