"""Text to ids and back, and the tokenize stage."""
