"""Looking at the data: documents, rejects, tokens, windows."""
