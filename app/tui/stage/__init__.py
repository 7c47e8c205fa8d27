"""A stage before it starts: form, flow, pre-flight card."""
