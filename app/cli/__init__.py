"""The command line: typed commands."""
