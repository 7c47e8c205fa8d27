"""A command line as data: parsed, laid over settings, typed again."""
