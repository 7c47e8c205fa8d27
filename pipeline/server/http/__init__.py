"""Routes, limits and the page."""
