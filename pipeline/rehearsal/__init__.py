"""Every stage tried on a sliver of the real data."""
