"""Conversations found in running text by rule: nobody else's words, and no model."""
