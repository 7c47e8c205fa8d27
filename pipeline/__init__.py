"""Stages that turn files into files, each a generator of events."""
