"""The inference stage: checkpoints write text."""
