"""Conversations to learn from: read, checked, encoded, with the parts marked that are learned."""
