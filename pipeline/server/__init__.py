"""The server: checkpoints answer the OpenAI protocol."""
