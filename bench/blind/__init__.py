"""Blind battles over HTTP: nothing that a rater's browser receives before the end tells which model wrote what."""
