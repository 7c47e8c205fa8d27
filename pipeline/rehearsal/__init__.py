"""Every stage tried on a sample of the real data."""
