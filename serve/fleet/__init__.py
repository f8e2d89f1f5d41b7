"""Engines: which run, on what part of the machine, and what keeps each of them running. `supervisor` decides."""
