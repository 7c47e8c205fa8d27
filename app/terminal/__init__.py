"""Events as terminal text."""
