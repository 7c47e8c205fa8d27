"""Servers that tests ask: our own over small models, and imitations of those of others."""
