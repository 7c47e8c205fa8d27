"""Looking at the data."""
