"""The bench stage, and votes between answers."""
