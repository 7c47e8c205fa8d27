"""Conversations to token ids: one encoder for training, the terminal, the server and the app."""
