"""Foundations that know nothing of language models; one topic a file."""

VERSION = "0.1.0"
