"""The settings, their sources, and which environment variables other programs may see."""
