"""The transformer in C."""
