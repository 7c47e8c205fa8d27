"""Compare: several models answer one prompt."""
