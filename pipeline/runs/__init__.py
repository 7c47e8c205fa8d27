"""Run folders: what is in them and what was measured."""
