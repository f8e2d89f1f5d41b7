"""Replicas of a model on this machine: what they add, how they scale, how they come back."""
