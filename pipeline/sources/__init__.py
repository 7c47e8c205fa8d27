"""Where text comes from, and the download stage."""
