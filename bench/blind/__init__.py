"""Blind battles over HTTP: nothing that a rater's browser receives before the end reveals which model wrote what."""
