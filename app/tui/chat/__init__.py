"""Chat: a conversation with one model."""
