"""Token ids in, likely next ids out."""
