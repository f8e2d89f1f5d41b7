"""Scorers: small functions of one answer, by name or by your own Python, and what many answers come to."""
