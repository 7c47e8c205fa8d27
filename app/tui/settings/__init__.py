"""config.json, setting by setting or as text."""
