"""The Keys tab: API keys, their limits and their usage."""
