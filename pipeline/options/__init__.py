"""Every setting: one model per stage and config.json section."""
