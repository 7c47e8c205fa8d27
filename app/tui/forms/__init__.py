"""Settings as forms: fields, drafts, command lines."""
