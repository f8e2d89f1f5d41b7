"""Tasks: reading, asking, storing, comparing."""
