"""Engines: the supervisor that decides which run, their placement and memory, and the lifecycle of each."""
