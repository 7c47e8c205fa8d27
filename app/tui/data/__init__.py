"""Data: documents, rejects, tokens and training windows."""
