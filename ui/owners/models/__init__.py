"""The Models tab: served models and their engines."""
