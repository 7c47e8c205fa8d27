"""What screens show, worked out without widgets."""
