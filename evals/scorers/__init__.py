"""Scorers: small functions of one answer, by name or in your own Python, and summaries over many answers."""
