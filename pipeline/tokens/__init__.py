"""Token sets: what is in them and how they are read."""
